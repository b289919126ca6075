"""Engines: a base, a batch of adapters and probes in, activations out.

engine.py       what an engine is
routing.py      the engines by name, and which one computes an adapter exactly
base_model.py   the base: weights, tokenizer, probes as tokens
base_guard.py   restoring the base after every adapter
reference.py    one adapter and one probe at a time, by PEFT itself
layer_state.py  the state before a layer
pooling.py      from the states of a probe's tokens to one
unembedding.py  which tokens a delta promotes, by the base's output layer
hidden_states.py    the states of probes by a model's own forward pass
out_of_memory.py    running out of memory

edits/          how adapters change single modules, read from their tensors
stacked/        every adapter of a batch in one pass
streamed/       whole models, layer by layer
vllm/           bases that need several GPUs or kernels for quantized weights
"""
