"""Everything that speaks to a Hub, and the local read-only Hub.

crawl.py        one crawl: listings → entries → conclusions → rows
discovery.py    which listings, and how far down
entry.py        an entry of a listing, read without trust
lineage.py      which base it belongs to, and by which evidence
adapter_files.py, catalog.py    its adapters, and their rows
ledger.py       which of the rows say something new
describe.py     rows of adapters that a person names
downloads.py, safetensors_header.py    an adapter's files at its commit
base_download.py    the base itself, in the ordinary cache
partial_fetch.py, ranged.py     parts of such a file: some of its tensors
hub.py, hub_errors.py    huggingface_hub's client, configured; what its errors mean
pages.py, wire.py    walking a listing; what one answer may cost in time, bytes and pauses
local_hub/      a Hub for a folder of repositories
"""
