"""Writing files atomically: each appears under its name complete and synced, or not at all."""

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from hubdelta.schemas.errors import OutputError, UsageError

UNFINISHED: Final = ".tmp"
"""Suffix of a file that is still being written, or was left behind by a killed run."""


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, renamed into place once it is all on disk; an error leaves no trace.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # a read-only disk refuses this too
            unfinished.unlink(missing_ok=True)
        raise


STDOUT: Final = Path("-")
"""The path that means standard output."""


@contextmanager
def opened_output(path: Path) -> Iterator[BinaryIO]:
    """The output file that a user asked for; it replaces any file of that name.

    Standard output receives it only once complete, since some formats are written out of order.

    Raises:
        OutputError: no space, no permission.
        BrokenPipeError: the reader of standard output has closed it.
    """
    try:
        if path == STDOUT:
            with TemporaryFile() as whole:
                yield whole
                whole.seek(0)
                shutil.copyfileobj(whole, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            with appearing(path) as file:
                yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from error


def shown_output(path: Path) -> str:
    """How to tell the user where the output went."""
    return "standard output" if path == STDOUT else str(path)


def make_folder(path: Path) -> None:
    """Make a folder for output, if it is missing, before doing the work.

    Raises:
        OutputError: it is a file, or cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path} is a file: name a folder") from error
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from error


def check_output(path: Path) -> None:
    """Check that an output file can be written, before doing the work.

    Raises:
        OutputError: nothing can be written there.
        UsageError: there is no such folder, or what is there is not a regular file.
    """
    if path == STDOUT:
        return
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it exists and is not a regular file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: no permission to write in {path.parent}")


def why_unwritten(path: Path, error: OSError) -> str:
    """What to tell a user who cannot write a file."""
    if error.errno == errno.ENOSPC:
        return f"no disk space left to write {shown_output(path)}: free some, then run again"
    if isinstance(error, FileExistsError | NotADirectoryError) and (file := _file_above(path)):
        return f"cannot write {path}: {_in_place_of_a_folder(file)}"
    return f"cannot write {shown_output(path)}: {error.strerror or error}"


def why_unread(path: Path, error: OSError) -> str:
    """What to tell a user who cannot read a file or folder."""
    what = "folder" if path.is_dir() else "file"
    if isinstance(error, PermissionError):
        return f"no permission to read the {what} {path}: grant it, then run again"
    if isinstance(error, NotADirectoryError) and (file := _file_above(path)):
        return f"cannot read the index: {_in_place_of_a_folder(file)}"
    return f"cannot read the {what} {path}: {error.strerror or error}"


def _file_above(path: Path) -> Path | None:
    """The regular file at a path or among its parents, where only folders can be."""
    return next((place for place in (path, *path.parents) if place.is_file()), None)


def _in_place_of_a_folder(file: Path) -> str:
    return f"{file} is a file where a folder belongs: move it away, then run again"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
