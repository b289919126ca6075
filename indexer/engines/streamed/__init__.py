"""The streamed engine: whole models of any size, of which two layers are in memory at a time.

engine.py       the engine: a finetune next to its base
skeleton.py     a model without weights, cut into units
stream.py       each unit's weights, in just before it runs and out when it has run
naming.py       which tensors of a checkpoint make which parameter
leftovers.py    tensors that no parameter takes
"""
