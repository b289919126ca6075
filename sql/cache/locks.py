"""Who may do what to the cache: one process at a time refreshes it, and none under a reader.

DuckDB locks the file too, but its locks belong to the process and fall as soon as any descriptor of
the file is closed there. These are flock's, which belong to what was opened.
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
"""The file of an index that is the cache."""

_READERS = ".cache.readers"


@contextmanager
def refreshing(index: "Index") -> Iterator[None]:
    """Nobody else attaches or refreshes the cache meanwhile.

    Raises:
        OSError: nothing can be written there.
    """
    from filelock import FileLock, Timeout  # who only reads does not wait for it to load

    lock = FileLock(index.root / ".cache.lock")
    try:
        lock.acquire(timeout=2)
    except Timeout:
        logger.info(
            "waiting for another process, which brings the cache of %s up to date", index.root
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Reading:
    """A reader of the cache's present file, which nobody changes until it is closed."""

    def __init__(self, root: Path) -> None:
        """Begin to read.

        Args:
            root: the index's directory.

        Raises:
            BlockingIOError: the file is being changed at this moment; never under `refreshing`.
        """
        self._file: BinaryIO | None = None
        path = root / _READERS
        with suppress(OSError):  # where nothing can be written, it may at least be there
            path.touch()
        with suppress(FileNotFoundError, PermissionError):
            self._file = path.open("rb")
            fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """The file is no longer read."""
        if self._file is not None:
            self._file.close()


@contextmanager
def without_readers(index: "Index") -> Iterator[bool]:
    """Whether nobody reads the cache's present file; nobody can begin to, under `refreshing`."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context((index.root / _READERS).open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody reads it, or the file is somebody else's
            yield False
        else:
            yield True
