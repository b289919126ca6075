"""The stacked engine: every adapter of a batch in one pass through the base.

engine.py       the engine
batching.py     which adapters share a pass
rows.py         probes as rows of the pass
model.py, layers.py, stacks.py      the base, its modules and their edits, with a batch of adapters
experts.py, block_stacks.py     the same of experts, and of adapters read as blocks
forward.py, shortcuts.py    from token ids to hidden states, and cheaper ways to the same ones
arithmetic.py   in which type products run, and from where they start
precision.py, accuracy.py, baselines.py     the precisions, how near each is to fp32, and the
                base's own answer in each
"""
