"""Adapters and whole models, read and checked before an engine sees them.

loading.py      from a row of the catalog to an adapter in memory: inspect, fetch, read
adapter.py, pending.py      an adapter in memory; one to be embedded
source.py       where its files are: a repository on the Hub, or a folder
local.py, local_files.py    local folders
adapter_config.py, peft_config.py, model_config.py     configurations
adapter_names.py, unusable_names.py, patterns.py    names of tensors, and patterns of modules
compatibility.py, fits.py   whether an adapter fits the base, from names and shapes
layer_replication.py    layers that a config replicates
chosen_weights.py   which files hold the weights
weights.py, blocks.py, mlx_adapter.py   an adapter's tensors
checkpoint.py, shards.py    a whole model's tensors, on the Hub or on disk
quantization.py, dequantization.py  recognizing and dequantizing quantized weights
torch_file.py, pickle_program.py    torch.save files, read without unpickling
"""
