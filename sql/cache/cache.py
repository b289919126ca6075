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
from pathlib import Path

import duckdb

from hubdelta.schemas.index import Index
from hubdelta.sql.cache import contents, flat_deltas
from hubdelta.sql.cache.attached import Attached
from hubdelta.sql.cache.contents import Contents, attached_contents, files_of, path_of
from hubdelta.sql.cache.database_paths import keeps_log_beside
from hubdelta.sql.cache.locks import CACHE_NAME, Reading, refreshing, without_readers
from hubdelta.sql.cache.spill import spill_folder

logger = logging.getLogger(__name__)


def refresh(index: Index) -> None:
    """Bring the cache and its linkage up to date, as every run does at its end.

    The cost grows with what is new: each new vector is compared with all others.

    Raises:
        UNUSABLE: it could not be written.
        OSError: there is no space or no permission.
    """
    with refreshing(index), duckdb.connect() as database:
        _attach_current(database, index, linked=True)


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
            contents.attach(database, path_of(index))
            tables = database.execute(
                "SELECT 'cache.' || table_name FROM duckdb_tables() WHERE database_name = 'cache'"
            ).fetchall()
            for name in tables:
                database.execute("SELECT max(hash(t)) FROM query_table(?) AS t", name).fetchall()
            flat_deltas.check(database, flat_deltas.mapped(database, index))
    except contents.UNUSABLE as error:
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
        held = _attach_current(database, index, linked=linked)
    except (OSError, *contents.UNUSABLE) as error:
        contents.detach(database)
        logger.warning(
            "answering without the cache, which cannot be brought up to date: %s",
            " ".join(str(error).split()),
        )
        return None
    return Attached(database, held, Reading(index.root))


def _attach_unlocked(
    database: duckdb.DuckDBPyConnection, index: Index, linked: bool
) -> Attached | None:
    """Attach an up-to-date cache in a folder that cannot be written."""
    try:
        reading = Reading(index.root)
    except BlockingIOError:
        return None
    held = attached_contents(database, index)
    if held is not None and held.is_current(files_of(index), linked=linked):
        return Attached(database, held, reading)
    contents.detach(database)
    reading.close()
    return None


def _attach_current(database: duckdb.DuckDBPyConnection, index: Index, *, linked: bool) -> Contents:
    """Update the cache where it is not up to date, and attach it; the caller holds its lock.

    Raises:
        UNUSABLE: it could not be written or read.
        OSError: there is no space or no permission.
    """
    path, present = path_of(index), files_of(index)
    for leftover in path.parent.glob(f"{CACHE_NAME}.*.tmp*"):
        leftover.unlink(missing_ok=True)
    held = attached_contents(database, index)
    if held is not None and held.is_current(present, linked=linked):
        return held
    contents.detach(database)  # nobody else can change the file while it is attached
    lacking = None if held is None else held.lacks(present)
    try:
        if lacking is None or not _extend(index, lacking, linked=linked):
            logger.debug("making %s", path)
            with _put_in_place(path) as copy:
                _update(copy, index, present.keys(), linked=linked)
    finally:
        flat_deltas.keep_only(index, contents.edition_at(database, path))
    contents.attach(database, path)
    return contents.read(database, index)


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
    except contents.UNUSABLE as error:  # it may be half done
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

    is_new, news = not path.exists(), sorted(names)
    with (
        spill_folder() as spill,
        duckdb.connect(config={"temp_directory": str(spill)}) as database,
    ):
        database.execute("SET TimeZone = 'UTC'")
        contents.attach(database, path, read_only=False)
        if is_new:
            create_tables(database, contents.VERSION)
        if is_new or news:
            ingest(database, index, news)
        if linked:
            link_families(database, index)
        database.execute("CHECKPOINT cache")


def _remove(path: Path) -> None:
    _log_of(path).unlink(missing_ok=True)  # first, lest it be applied to a later file of that name
    path.unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    """Where DuckDB keeps what is not checkpointed yet."""
    return path.with_name(f"{path.name}.wal")
