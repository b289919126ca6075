"""What completes a word of a command line: the bases and adapters that an index has.

A shell waits for it at every press of Tab. So nothing is brought up to date: bases are read off the
names of folders, adapters off the cache as it is, and where there is none, nothing is offered.
"""

import os
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from hubdelta.schemas.layout import crawled_bases

_MOST = 200  # completions; nobody reads more

_SAFE = re.compile(r"[\w./@-]+", re.ASCII)
"""What a shell takes as it stands: a stranger's subfolder may be called `$(...)`."""

_PATH_STARTS = ("/", "./", "../", "~", ".")


def complete_base(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """The bases of the index, and folders where a path is begun."""
    if incomplete.startswith(_PATH_STARTS):
        return [CompletionItem(incomplete, type="dir")]
    return _items(crawled_bases(_index(context)), incomplete)


def complete_adapter(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """The adapters of the index, and folders where a path is begun."""
    if incomplete.startswith(_PATH_STARTS):
        return [CompletionItem(incomplete, type="dir")]
    from hubdelta.sql.cache.cached_names import cached_names

    return _items(cached_names(_index(context), incomplete, _MOST), incomplete)


def _items(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name)
        for name in names
        if name.startswith(incomplete) and _SAFE.fullmatch(name)
    ]


def _index(context: click.Context) -> Path:
    """The index that the words before name, or else the environment."""
    named = context.params.get("index_path") or os.environ.get("HUBDELTA_INDEX")
    return Path(named or "hubdelta-index")
