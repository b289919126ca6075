"""Questions to an index, with the checks and messages that a person needs.

answers.py      similar, compare, domains, ...
centered.py     domains without what all adapters share
status.py       what the index holds
unanswered.py   why an adapter gives no answer
vectors.py      all vectors of a base as one matrix
"""
