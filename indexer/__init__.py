"""From a downloaded adapter to a vector in Parquet.

recipe.py       what two vectors must share to be comparable
probes.py       the fixed prompts
settings.py     how an index run works
process.py      threads and memory of the whole process
base_structure.py   a base's modules and shapes, without its weights
building.py, memory.py, prefetch.py     what several folders share

adapters/       reading adapters: configurations, names, weights, wherever they lie
engines/        computing activations
pipeline/       the plan of a run, its stages side by side, and the rows it writes
"""
