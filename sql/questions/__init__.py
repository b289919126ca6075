"""Questions to an index, with checks and messages for the user.

answers.py      similar, compare, domains, ...
centered.py     domains after subtracting what all adapters share
promoted.py     tokens that adapters and domains promote, beside other answers
status.py       what the index holds
unanswered.py   why an adapter has no answer
vectors.py      all vectors of a base as one matrix
"""
