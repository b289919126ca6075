"""An index run: what to embed, and the way there.

plan.py         catalog minus vectors minus failures that are not yet due
unchanged.py    what a new commit left as it was keeps its vector
recipe_check.py whether a base can follow a recipe, before anything is written
run.py          base, engine and pipeline, put together
arrivals.py     downloads, ahead of the computation
pipeline.py     download, read, stack, compute, write, all concurrently
rows.py, writer.py      what a run writes
timings.py, progress.py     how long each stage was busy, and how far the run has come
"""
