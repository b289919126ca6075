"""Ways to open an index, and to share one that need not be made anew for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import Queries, connect

_MOST = 3
"""Connections open at once."""

_State = list[tuple[str, int, int]]


def copy_of(index: Index, place: Path) -> Index:
    """A copy of an index, for a test that changes it; its cache is copied too and stays valid."""
    shutil.copytree(index.root, place)
    return Index.open(place)


def forbid_cache(index: Index) -> None:
    """Make an index a place where the cache can be neither locked nor written from now on."""
    lock = index.root / ".cache.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()


def connect_over_parquet(index: Index) -> Queries:
    """Connect to the Parquet files of an index, which can have a cache before and after that."""
    kept = path_of(index).with_suffix(".kept")
    has_cache = path_of(index).exists()
    if has_cache:
        path_of(index).rename(kept)
    forbid_cache(index)
    queries = connect(index)
    (index.root / ".cache.lock").rmdir()
    if has_cache:
        kept.rename(path_of(index))
    assert queries.parquet is not None
    return queries


class Opened:
    """Connections to the indexes asked last, each opened anew once its index has changed."""

    def __init__(self) -> None:
        self._held: dict[Path, tuple[_State, Queries]] = {}

    def of(self, index: Index, *, linked: bool = False) -> Queries:
        """A connection that shows an index as it is now.

        Args:
            index: the index.
            linked: link a changed index before it is opened. Questions about domains and pairs
                would have it opened once more for that.
        """
        state = _state(index)
        if index.root in self._held:
            then, queries = self._held.pop(index.root)
            if then == state:
                self._held[index.root] = then, queries
                return queries
            queries.close()
        while len(self._held) >= _MOST:
            self._held.pop(next(iter(self._held)))[1].close()
        if linked:
            cache.refresh(index)
        queries = connect(index)
        self._held[index.root] = state, queries
        return queries

    def close(self) -> None:
        """Close all connections."""
        while self._held:
            self._held.popitem()[1][1].close()


opened = Opened()
"""Those of the tests of one file."""


def _state(index: Index) -> _State:
    """The Parquet files of an index: they are written once and never changed."""
    return sorted(
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in index.root.rglob("*.parquet")
    )
