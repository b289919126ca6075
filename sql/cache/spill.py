"""Temporary folders for what DuckDB spills to disk."""

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "hubdelta-spill-"

_JUST_MADE: Final = 60  # seconds during which a new folder may not be locked yet


@contextmanager
def spill_folder() -> Iterator[Path]:
    """A folder for this process, removed at the end; those of killed processes are removed too.

    DuckDB lets queries read its spill folder, by default `.tmp` in the working directory. Each
    folder stays locked while its process lives, also for containers that share the temporary
    folder.
    """
    _remove_left_behind()
    folder = Path(tempfile.gettempdir(), f"{_PREFIX}{secrets.token_hex(8)}")
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or just removed
            state = folder.lstat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < _JUST_MADE:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
