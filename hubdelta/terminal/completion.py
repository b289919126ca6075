"""What completes a word of a command line: the bases and adapters that an index has.

A shell waits for it at every press of Tab. So nothing is brought up to date: bases are read off the
names of folders, adapters off the cache as it is, and where there is none, nothing is offered.
"""

import os
import re
from pathlib import Path

import typer

from hubdelta.schemas.keys import is_path
from hubdelta.settings import DEFAULT_INDEX

_MOST = 200  # completions; nobody reads more

_SAFE = re.compile(r"[\w./@-]+", re.ASCII)
"""What a shell takes as it stands: a stranger's subfolder may be called `$(...)`."""


def complete_base(context: typer.Context, incomplete: str) -> list[str]:
    """The bases of the index; none where a path is begun, which the shell completes by itself."""
    if is_path(incomplete):
        return []
    from hubdelta.schemas.layout import crawled_bases

    return _offered(crawled_bases(_index(context)), incomplete)


def complete_adapter(context: typer.Context, incomplete: str) -> list[str]:
    """The adapters of the index; none where a path is begun, as for bases."""
    if is_path(incomplete):
        return []
    from hubdelta.sql.cache.cached_names import cached_names

    return _offered(cached_names(_index(context), incomplete, _MOST), incomplete)


def _offered(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete) and _SAFE.fullmatch(name)]


def _index(context: typer.Context) -> Path:
    """The index that the words before name, or else the environment."""
    return Path(
        context.params.get("index_path") or os.environ.get("HUBDELTA_INDEX") or DEFAULT_INDEX
    )
