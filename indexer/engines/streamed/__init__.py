"""The streamed engine: whole models of any size, with two layers in memory at a time.

engine.py       the engine: a finetune next to its base
skeleton.py     a model without weights, cut into units
stream.py       each unit's weights, loaded just before it runs and released afterwards
naming.py       which tensors of a checkpoint form which parameter
leftovers.py    tensors that belong to no parameter
"""
