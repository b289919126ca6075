"""Files that appear under their names whole and safe on disk, or not at all."""

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
"""How the name of a file ends that is still written, or was left by a run that was killed."""


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, which takes its name when all is on disk; an error leaves no trace.

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
"""The name under which standard output is asked for."""


@contextmanager
def opened_output(path: Path) -> Iterator[BinaryIO]:
    """The file that a user asked for, to be written; it replaces what had that name.

    Standard output has all of it once it is whole, since some formats are written out of order.

    Raises:
        OutputError: no space, no permission.
        BrokenPipeError: the reader of standard output has left.
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
    """What a user is told of where the file went."""
    return "standard output" if path == STDOUT else str(path)


def check_output(path: Path) -> None:
    """Find out what is wrong with the name of a file to be written, before the work is done.

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
    """The file at a path or above it, which no folder can have."""
    return next((place for place in (path, *path.parents) if place.is_file()), None)


def _in_place_of_a_folder(file: Path) -> str:
    return f"{file} is a file where a folder belongs: move it away, then run again"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
