"""Adapters trained for real, and the Hub around them.

base.py         the base model, from a package to a transformers folder
pool.py         which adapters there are, what each was trained on, and how
sources.py      the text that they were trained on
train.py, check.py      training them; measuring what came of it
awkward.py, awkward_files.py    the whole Hub, with repositories as awkward as real ones
others.py       an encoder-decoder base, a whole model
cards.py, repository.py, whole.py   model cards; one repository; folders that appear whole
"""
