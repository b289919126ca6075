"""The stacked engine: every adapter of a batch in one pass through the base.

engine.py       the engine
batching.py     which adapters share a pass
rows.py         probes as rows of the pass
model.py, layers.py, stacks.py      the base, its modules and their edits, with a batch of adapters
forward.py, shortcuts.py    from token ids to hidden states, and cheaper ways to the same ones
precision.py, baselines.py  arithmetic, its noise, and the base's own answer in each
"""
