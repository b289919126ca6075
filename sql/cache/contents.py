"""What a cache holds, and which of the index's files it lacks."""

import logging
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import duckdb

from hubdelta.schemas.arrow import schema_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import SCHEMA_VERSION, files_under
from hubdelta.schemas.rows import TABLES
from hubdelta.sql.cache import flat_deltas
from hubdelta.sql.cache.database_paths import for_duckdb
from hubdelta.sql.cache.flat_deltas import Deltas, FlatDeltasError
from hubdelta.sql.cache.locks import CACHE_NAME
from hubdelta.sql.views import text_of
from hubdelta.vectors import sketch

logger = logging.getLogger(__name__)

_MADE_BY = (
    *("cache_schema.sql", "touched_sources.sql", "embedded.sql", "present.sql", "terms.sql"),
    "settle.sql",
)


def _version() -> str:
    texts = [text_of(part) for part in _MADE_BY]
    tables = [f"{row_type.table}: {schema_of(row_type).names}" for row_type in TABLES]
    digest = sha1("".join(texts + tables).encode(), usedforsecurity=False).hexdigest()
    return f"{SCHEMA_VERSION}-{sketch.VERSION}-{digest[:12]}"


VERSION = _version()
"""The versions that determine the cache's contents; a cache with others is rebuilt."""


class UnusableCacheError(Exception):
    """A cache is of another version, or was left half written."""


UNUSABLE = (duckdb.Error, FlatDeltasError, UnusableCacheError)
"""What shows that a cache cannot be used."""


@dataclass(frozen=True)
class File:
    """A Parquet file of the index: written once, so its size shows whether it is the same.

    Attributes:
        bytes: its size.
        modified: when its content, name or permissions last changed [ns]: a damaged one may have
            been repaired.
        damaged: whether it could not be read.
    """

    bytes: int
    modified: int
    damaged: bool = False


@dataclass(frozen=True)
class Contents:
    """What a sound cache holds.

    Attributes:
        files: the Parquet files whose rows it holds, by name relative to the index's root.
        linked: whether its linkage is up to date.
        deltas: its deltas, mapped into memory.
    """

    files: dict[str, File]
    linked: bool
    deltas: Deltas

    def lacks(self, present: dict[str, File]) -> set[str] | None:
        """The files to read or forget; None if it holds rows that are no longer there."""
        same = {
            name
            for name, file in self.files.items()
            if name in present
            and file.bytes == present[name].bytes
            and (not file.damaged or file.modified == present[name].modified)
        }
        others = self.files.keys() - same
        if not all(self.files[name].damaged for name in others):
            return None
        return (present.keys() - same) | others

    def is_current(self, present: dict[str, File], *, linked: bool) -> bool:
        """Whether it holds exactly these files, and an up-to-date linkage if that is needed."""
        return self.lacks(present) == set() and self.linked >= linked


def path_of(index: Index) -> Path:
    """Where an index has its cache."""
    return index.root / CACHE_NAME


def files_of(index: Index) -> dict[str, File]:
    """The Parquet files of an index, by name relative to its root."""
    found = {}
    for row_type in TABLES:
        for path in files_under(index.root / row_type.table):
            if not path.name.startswith("schema-v"):
                try:
                    state = path.stat()
                except FileNotFoundError:  # removed since it was listed
                    continue
                name = path.relative_to(index.root).as_posix()
                found[name] = File(state.st_size, state.st_ctime_ns)
    return found


def attach(database: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool = True) -> None:
    """Attach a cache as `cache`.

    Raises:
        duckdb.Error: it is not a database, or cannot be opened.
    """
    # Threads share a scan by row groups, for readers too: DuckDB's ordinary 122,880 rows would keep
    # one of them busy.
    options = "READ_ONLY, " if read_only else ""
    database.execute(f"ATTACH {for_duckdb(path)} AS cache ({options}ROW_GROUP_SIZE 8192)")


def detach(database: duckdb.DuckDBPyConnection) -> None:
    """Detach the cache, if one is attached."""
    database.execute("DETACH DATABASE IF EXISTS cache")


def attached_contents(database: duckdb.DuckDBPyConnection, index: Index) -> Contents | None:
    """Attach an index's cache for reading, and read what it holds.

    Returns:
        None if it is missing, of another version or damaged; then it is not attached.
    """
    path = path_of(index)
    if path.exists():
        try:
            attach(database, path)
            return read(database, index)
        except UNUSABLE as error:
            logger.debug("%s is unusable: %s", path, error)
            detach(database)
    return None


def edition_at(database: duckdb.DuckDBPyConnection, path: Path) -> str | None:
    """The edition of a cache that is not attached; None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        attach(database, path)
        return flat_deltas.edition_of(database)
    except duckdb.Error:
        return None
    finally:
        detach(database)


def read(database: duckdb.DuckDBPyConnection, index: Index) -> Contents:
    """What the attached cache holds.

    Raises:
        duckdb.Error: it is damaged.
        FlatDeltasError: its deltas are missing.
        UnusableCacheError: it is of another version, or half written.
    """
    facts = database.execute("SELECT version, settled, linked FROM cache.facts").fetchall()
    if [row[:2] for row in facts] != [(VERSION, True)]:
        raise UnusableCacheError("it is of another version, or half written")
    deltas = flat_deltas.mapped(database, index)
    rows = database.execute(
        "SELECT name, bytes, modified, damage IS NOT NULL FROM cache.files"
    ).fetchall()
    files = {name: File(size, modified, damaged) for name, size, modified, damaged in rows}
    return Contents(files, facts[0][2], deltas)
