"""Everything that speaks to a Hub.

crawl.py        one crawl: listings → entries → conclusions → rows
discovery.py    which listings to walk, and how far down
entry.py        an entry of a listing, parsed as untrusted input
lineage.py, resolution.py   which base it belongs to, and on what evidence
base_names.py   what a base is called in configurations and cards
mirrors.py, same_weights.py     copies of a base, and finetunes that kept its name
adapter_files.py, catalog.py    a repository's adapters, and their rows
card.py         the text of a model card
ledger.py, crawl_summary.py     which rows changed; progress and summary of a crawl
describe.py     rows of adapters that the user names
base.py, base_download.py   the base that the user names; its files in the Hugging Face cache
downloads.py, safetensors_header.py, weight_index.py    an adapter's files at its commit
content_hash.py, foreign_content.py     whether a file is what it claims to be
partial_fetch.py, ranged.py, remote_ranges.py   parts of a file
hub.py, hub_errors.py    huggingface_hub's client, configured; what its errors mean
pages.py, wire.py    walking a listing; limits on the time, bytes and pauses of one response
pace.py         the Hub's rate limits, kept by spreading requests
"""
