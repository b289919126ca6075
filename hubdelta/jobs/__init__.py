"""Jobs of commands that hold the index and write to it.

index_run.py    the nightly job: crawl, then embed what is new
index_request.py, index_summary.py      what it is asked to do, and how it ended
targets.py      the base and the adapters that the user names
derived.py      what every run updates at its end: the cache and the clusters
promotions.py   the tokens that new adapters promote
kept_map.py     the map stored in the index
evaluation.py   spaces compared: labels, what is lacking, scores
paper_export.py the files of the paper's release
labels.py       labels, read from a file and stored
interrupt.py    Ctrl-C and SIGTERM
"""
