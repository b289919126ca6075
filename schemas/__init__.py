"""What an index holds: tables, keys, errors. Imports nothing of the other rooms.

rows.py         a dataclass for each table: columns, Arrow types, meanings, units
arrow.py        rows as Arrow tables, and back
keys.py         names and keys of adapters and bases
index.py        an index: a directory of Parquet files, read and written
layout.py       where its files lie
parquet.py      opening one of them
upgrade.py      moving files of earlier versions to their current place
kinds.py        kinds of catalog rows, and relations to a base
setting.py      settable fields of dataclasses: help texts and bounds
defaults.py     default counts and distances of queries
errors.py       every error that a user may see, and the closed list of reasons
files.py        writing files atomically
words.py        plurals and lists in messages
"""
