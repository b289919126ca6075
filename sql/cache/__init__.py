"""The derived cache of an index, brought up to date by what is new in the Parquet files.

cache.py        when it is made, extended, copied
ingest.py       rows of Parquet files as rows of the cache
attached.py     a cache that a connection reads
families.py     the vectors that are compared with each other
flat_deltas.py  the deltas as flat files, which numpy maps
cached_names.py     names of adapters, for completion
locks.py        who reads and who writes
database_paths.py, spill.py     paths that DuckDB takes; its temporary folders
"""
