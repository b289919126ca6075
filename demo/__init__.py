"""Really trained adapters, and the demo Hub around them.

base.py         the base model, from a package to a transformers folder
pool.py         which adapters there are, what each was trained on, and how
sources.py      the text that they were trained on
train.py, check.py      training them; measuring the result
awkward.py, awkward_files.py    the whole Hub, with repositories as awkward as real ones
others.py       an encoder-decoder base and a full finetune
cards.py, repository.py, whole.py   model cards; one repository; creating folders atomically
"""
