"""The derived cache `<index>/hubdelta.duckdb`, updated from what is new in the Parquet files.

It holds nothing beyond the Parquet files: whatever is missing, stale or damaged is rebuilt. It has
its own locks, so queries may refresh it while an index run writes. Open readers keep their
snapshot: while there are any, a copy is updated and replaces it.
"""

import logging
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import duckdb

from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import SCHEMA_VERSION, files_under
from hubdelta.schemas.rows import TABLES, schema_of
from hubdelta.sql.cache import flat_deltas
from hubdelta.sql.cache.attached import Attached
from hubdelta.sql.cache.database_paths import for_duckdb, keeps_log_beside
from hubdelta.sql.cache.flat_deltas import FlatDeltasError
from hubdelta.sql.cache.locks import CACHE_NAME, Reading, refreshing, without_readers
from hubdelta.sql.cache.spill import spill_folder
from hubdelta.sql.views import text_of
from hubdelta.vectors import sketch

logger = logging.getLogger(__name__)

_MADE_BY = (
    *("cache_schema.sql", "touched_sources.sql", "embedded.sql", "present.sql", "terms.sql"),
    "settle.sql",
)


def _version() -> str:
    """The versions that determine the cache's contents; a cache with others is rebuilt."""
    texts = [text_of(part) for part in _MADE_BY]
    tables = [f"{row_type.table}: {schema_of(row_type).names}" for row_type in TABLES]
    digest = sha1("".join(texts + tables).encode(), usedforsecurity=False).hexdigest()
    return f"{SCHEMA_VERSION}-{sketch.VERSION}-{digest[:12]}"


_VERSION = _version()


def path_of(index: Index) -> Path:
    """Where an index has its cache."""
    return index.root / CACHE_NAME


def refresh(index: Index) -> None:
    """Bring the cache and its linkage up to date, as every run does at its end.

    The cost grows with what is new: each new vector is compared with all others.

    Raises:
        duckdb.Error: it could not be written.
        OSError: the same.
    """
    with refreshing(index):
        _refresh(index, linked=True)


def attach(database: duckdb.DuckDBPyConnection, index: Index, *, linked: bool) -> Attached | None:
    """Update the cache and attach it as `cache`, for reading.

    Args:
        database: the connection.
        index: the index.
        linked: whether its linkage has to be up to date as well.

    Returns:
        The cache; None if it is out of date and cannot be written, and so is not attached.
    """
    try:
        with refreshing(index):
            return _attach_refreshed(database, index, linked)
    except OSError as error:
        logger.debug("%s cannot be locked: %s", path_of(index), error)
        return _attach_unlocked(database, index, linked)


def is_damaged(index: Index) -> bool:
    """Whether some of the cache's blocks or deltas cannot be read; it reads all of them."""
    try:
        with duckdb.connect() as database:
            _attach(database, path_of(index))
            tables = database.execute(
                "SELECT 'cache.' || table_name FROM duckdb_tables() WHERE database_name = 'cache'"
            ).fetchall()
            for name in tables:
                database.execute("SELECT max(hash(t)) FROM query_table(?) AS t", name).fetchall()
            flat_deltas.check(database, flat_deltas.mapped(database, index))
    except (duckdb.Error, FlatDeltasError) as error:
        logger.debug("%s is damaged: %s", path_of(index), error)
        return True
    return False


def remove(index: Index) -> bool:
    """Delete a damaged cache; whether that succeeded."""
    try:
        with refreshing(index):
            _remove(path_of(index))
            flat_deltas.keep_only(index, None)
    except OSError as error:
        logger.debug("%s cannot be removed: %s", path_of(index), error)
        return False
    return True


def _attach_refreshed(
    database: duckdb.DuckDBPyConnection, index: Index, linked: bool
) -> Attached | None:
    """Update and attach the cache; the caller holds its lock."""
    try:
        _refresh(index, linked=linked)
        _attach(database, path_of(index))
        deltas = flat_deltas.mapped(database, index)
    except (OSError, duckdb.Error, FlatDeltasError) as error:
        database.execute("DETACH DATABASE IF EXISTS cache")
        logger.warning(
            "answering without the cache, which cannot be brought up to date: %s",
            " ".join(str(error).split()),
        )
        return None
    return Attached(database, deltas, Reading(index.root))


def _attach_unlocked(
    database: duckdb.DuckDBPyConnection, index: Index, linked: bool
) -> Attached | None:
    """Attach an up-to-date cache in a folder that cannot be written."""
    try:
        reading = Reading(index.root)
    except BlockingIOError:
        return None
    try:
        _attach(database, path_of(index))
        stored = _stored(database, index)
        if stored and stored.linked >= linked and stored.lacks(_files(index)) == set():
            return Attached(database, flat_deltas.mapped(database, index), reading)
    except (duckdb.Error, FlatDeltasError) as error:
        logger.debug("no cache: %s", error)
    database.execute("DETACH DATABASE IF EXISTS cache")
    reading.close()
    return None


@dataclass(frozen=True)
class _File:
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
class _Stored:
    """What a cache holds: its files, by name, and whether its linkage is up to date."""

    files: dict[str, _File]
    linked: bool

    def lacks(self, present: dict[str, _File]) -> set[str] | None:
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


def _refresh(index: Index, *, linked: bool) -> None:
    path, present = path_of(index), _files(index)
    for leftover in path.parent.glob(f"{CACHE_NAME}.*.tmp*"):
        leftover.unlink(missing_ok=True)
    stored = _stored_at(path, index)
    lacking = None if stored is None else stored.lacks(present)
    if stored is not None and lacking == set() and stored.linked >= linked:
        return
    try:
        if stored is None or lacking is None or not _extend(index, lacking, linked=linked):
            logger.debug("making %s", path)
            with _put_in_place(path) as copy:
                _update(copy, index, present.keys(), linked=linked)
    finally:
        flat_deltas.keep_only(index, _edition_at(path))


def _extend(index: Index, lacking: Iterable[str], *, linked: bool) -> bool:
    """Add the rows of some files to the cache; False if it has to be rebuilt instead."""
    path = path_of(index)
    try:
        with without_readers(index) as unread:
            if unread and keeps_log_beside(path):
                _update(path, index, lacking, linked=linked)
                return True
        with _put_in_place(path) as copy:
            shutil.copyfile(path, copy)
            if _log_of(path).exists():
                shutil.copyfile(_log_of(path), _log_of(copy))
            _update(copy, index, lacking, linked=linked)
    except (duckdb.Error, FlatDeltasError) as error:  # it may be half done
        logger.debug("%s cannot be brought up to date: %s", path, error)
        return False
    return True


@contextmanager
def _put_in_place(path: Path) -> Iterator[Path]:
    """A new file that replaces a cache once written; an error removes it.

    It is made beside the cache, or in a temporary folder if DuckDB cannot write there.
    """
    copy = path.with_name(f"{CACHE_NAME}.{secrets.token_hex(4)}.tmp")
    try:
        if keeps_log_beside(path):
            yield copy
        else:
            with spill_folder() as folder:
                yield folder / copy.name
                shutil.copyfile(folder / copy.name, copy)
        _log_of(path).unlink(missing_ok=True)
        copy.replace(path)
    finally:
        _remove(copy)


def _update(path: Path, index: Index, names: Iterable[str], *, linked: bool) -> None:
    """Add the rows of some files to a cache; a new one gets its tables first."""
    # This imports scipy, which takes longer to load than a query to answer.
    from hubdelta.sql.cache.ingest import create_tables, ingest, link_families

    is_new = not path.exists()
    with (
        spill_folder() as spill,
        duckdb.connect(config={"temp_directory": str(spill)}) as database,
    ):
        database.execute("SET TimeZone = 'UTC'")
        _attach(database, path, read_only=False)
        if is_new:
            create_tables(database, _VERSION)
        ingest(database, index, sorted(names))
        if linked:
            link_families(database, index)
        database.execute("CHECKPOINT cache")


def _files(index: Index) -> dict[str, _File]:
    found = {}
    for row_type in TABLES:
        for path in files_under(index.root / row_type.table):
            if not path.name.startswith("schema-v"):
                try:
                    state = path.stat()
                except FileNotFoundError:  # removed since it was listed
                    continue
                name = path.relative_to(index.root).as_posix()
                found[name] = _File(state.st_size, state.st_ctime_ns)
    return found


def _stored_at(path: Path, index: Index) -> _Stored | None:
    """What a cache holds; None if it is missing, of another version or damaged."""
    if not path.exists():
        return None
    try:
        with duckdb.connect() as database:
            _attach(database, path)
            return _stored(database, index)
    except (duckdb.Error, FlatDeltasError) as error:
        logger.debug("%s is unusable: %s", path, error)
        return None


def _edition_at(path: Path) -> str | None:
    """The edition of a cache; None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        with duckdb.connect() as database:
            _attach(database, path)
            return flat_deltas.edition_of(database)
    except duckdb.Error:
        return None


def _stored(database: duckdb.DuckDBPyConnection, index: Index) -> _Stored | None:
    facts = database.execute("SELECT version, settled, linked FROM cache.facts").fetchall()
    if [row[:2] for row in facts] != [(_VERSION, True)]:
        return None
    flat_deltas.mapped(database, index)
    rows = database.execute(
        "SELECT name, bytes, modified, damage IS NOT NULL FROM cache.files"
    ).fetchall()
    files = {name: _File(size, modified, damaged) for name, size, modified, damaged in rows}
    return _Stored(files, facts[0][2])


def _attach(database: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool = True) -> None:
    # Threads share a scan by row groups, for readers too: DuckDB's ordinary 122,880 rows would keep
    # one of them busy.
    options = "READ_ONLY, " if read_only else ""
    database.execute(f"ATTACH {for_duckdb(path)} AS cache ({options}ROW_GROUP_SIZE 8192)")


def _remove(path: Path) -> None:
    _log_of(path).unlink(missing_ok=True)  # first, lest it be applied to a later file of that name
    path.unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    """Where DuckDB keeps what is not checkpointed yet."""
    return path.with_name(f"{path.name}.wal")
