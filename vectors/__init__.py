"""Arithmetic on vectors, in numpy: no database, no files.

linkage.py      single linkage: the minimum spanning tree, kept up to date
density.py      density clusters, by HDBSCAN on that tree
measures.py     cohesion and silhouettes of clusters
nearest.py      the exact nearest vectors of each vector
sketch.py       signs of a random projection, by which a search chooses candidates
arrow_buffers.py    zero-copy conversion of numbers between Arrow and numpy
"""
