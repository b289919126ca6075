"""The stacked engine: every adapter of a batch in one pass through the base.

engine.py       the engine
batching.py     which adapters share a pass
rows.py         probes as rows of the pass
model.py, layers.py, stacks.py      the base, its modules and their edits, with a batch of adapters
forward.py, shortcuts.py    from token ids to hidden states, and cheaper ways to compute the same
precision.py, baselines.py  precisions, their noise, and the base's own answer in each
"""
