"""Locks of the cache: one process at a time refreshes it, and never under a reader.

DuckDB locks the file too, but its locks belong to the process and are released as soon as it closes
any descriptor of the file. These are flock locks, which belong to one open file.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from hubdelta.schemas.index import Index

logger = logging.getLogger(__name__)

CACHE_NAME = "hubdelta.duckdb"
"""The cache's file in an index."""

_READERS = ".cache.readers"


@contextmanager
def refreshing(index: "Index") -> Iterator[None]:
    """Keep other processes from attaching or refreshing the cache.

    Raises:
        OSError: nothing can be written there.
    """
    from filelock import FileLock, Timeout  # imported here so that plain readers start faster

    lock = FileLock(index.root / ".cache.lock")
    try:
        lock.acquire(timeout=2)
    except Timeout:
        logger.info("waiting for another process to update the cache of %s", index.root)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Reading:
    """A reader of the cache's current file, which is not changed until the reader is closed."""

    def __init__(self, root: Path) -> None:
        """Begin reading.

        Args:
            root: the index's directory.

        Raises:
            BlockingIOError: the file is being changed; never under `refreshing`.
        """
        self._file: BinaryIO | None = None
        path = root / _READERS
        with suppress(OSError):  # if nothing can be written, the lock file may still exist
            path.touch()
        with suppress(FileNotFoundError, PermissionError):
            self._file = path.open("rb")
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """End reading."""
        if self._file is not None:
            self._file.close()


@contextmanager
def without_readers(index: "Index") -> Iterator[bool]:
    """Whether the cache's current file has no readers; under `refreshing`, none can begin."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((index.root / _READERS).open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # it has a reader, or belongs to another user
            yield False
        else:
            yield True
