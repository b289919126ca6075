"""An index in DuckDB SQL.

connection.py   an index, opened for queries
read_only.py    what a query may do
vocabulary.py   every view and macro that a query may name: parameters, defaults, comments
columns.py      descriptions of the views' columns
script.py       the views and macros as one SQL script: for our connection, and for any DuckDB
parquet_files.py    the files that the views read if there is no cache
stoppable.py    queries that Ctrl-C stops

views/          the SQL itself
cache/          what queries read: derived from the Parquet files and disposable
search/         nearest neighbors, by sketches and exact cosines
questions/      the questions behind the command line and the Python API
"""
