"""The SQL function behind `neighbors` and `within` over the cache.

function.py     the function
sketched.py     candidates by sketches, ranked by cosines
bound.py        the number of neighbors, or the distance
"""
