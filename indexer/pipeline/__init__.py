"""An index run: what is to be embedded, and how it gets there.

plan.py         catalog minus vectors minus failures that are not yet due
run.py          base, engine and pipeline, put together
arrivals.py     downloads, ahead of the computation
pipeline.py     download, read, stack, compute, write: side by side
rows.py, writer.py      what a run writes
timings.py, progress.py     how long each stage had work, and how far the run has come
"""
