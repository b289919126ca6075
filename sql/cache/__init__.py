"""The derived cache of an index, updated from what is new in the Parquet files.

cache.py        when it is created, extended, copied
contents.py     what it holds, and which files it lacks
ingest.py       rows of Parquet files as rows of the cache
attached.py     a cache that a connection reads
families.py     vectors that are comparable with each other
flat_deltas.py  the deltas as flat files that numpy can map
cached_names.py     names of adapters, for completion
locks.py        locks for readers and writers
database_paths.py, spill.py     paths that DuckDB accepts; its temporary folders
"""
