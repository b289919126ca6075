"""What an index holds: tables, keys, errors. Imports nothing of the other rooms.

rows.py         a dataclass for each table: columns, Arrow types, meanings, units
keys.py         names and keys of adapters and bases
index.py        an index: a directory of Parquet files, read and written
layout.py       where its files lie
parquet.py      opening one of them
upgrade.py      files of earlier versions, moved to where they belong now
kinds.py        kinds of rows of the catalog, and relations to a base
setting.py      what a field of a dataclass lets a user set, with its help and bounds
defaults.py     how many and how far, where a question does not say
errors.py       every error that a user may see, and the closed list of reasons
files.py        files that appear whole or not at all
words.py        plurals and lists in messages
"""
