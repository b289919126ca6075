"""From a downloaded adapter to a vector in Parquet.

recipe.py       what two vectors must share to be comparable
probes.py       the prompts
readout.py      which hidden states are returned
settings.py     how an index run works
process.py      threads and memory of the whole process
base_structure.py   a base's modules and shapes, without its weights
token_names.py  how tokens are called
building.py, memory.py, prefetch.py     shared by several folders

adapters/       reading adapters: configurations, names, weights, on the Hub or on disk
engines/        computing activations
pipeline/       the plan of a run, its concurrent stages, and the rows it writes
"""
