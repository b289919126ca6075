"""What a person sees and types.

output.py       how a command answers: the options of that, and who writes
formats.py      answers for programs: JSON, CSV, Parquet
screen.py       tables that fit the terminal, through a pager
cells.py        values as text
summaries.py    what a run has done
progress.py     how far it has come
prompt.py       the interactive SQL prompt
completion.py   what completes a word of a command line
"""
