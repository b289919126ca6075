"""Local files that the user named, read without trusting them to be regular files."""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

from hubdelta.crawler.safetensors_header import (
    FIRST_BYTES,
    BadHeaderError,
    Header,
    header_length,
    parse_header,
)
from hubdelta.schemas.errors import AdapterError, Reason

_BLOCK: Final = 1 << 20  # bytes

_KINDS: Final = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file, without blocking on a pipe.

    Raises:
        AdapterError: no_weights (there is none), corrupt (it is something else, or not readable).
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise AdapterError(Reason.NO_WEIGHTS, f"there is no {path}") from error
    except OSError as error:
        what = _kind(path) or error.strerror
        raise AdapterError(Reason.CORRUPT, f"{path} cannot be read: {what}") from error
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise AdapterError(Reason.CORRUPT, f"{path} is {_named(mode)}, not a file")
    return os.fdopen(number, "rb")


def read_file(path: Path, limit: int) -> bytes:
    """The content of a small regular file.

    Raises:
        AdapterError: as `open_file`, or corrupt (longer than `limit` bytes).
    """
    with open_file(path) as file:
        content = _read(file, path, limit + 1)
    if len(content) > limit:
        raise AdapterError(Reason.CORRUPT, f"{path} has more than {limit} bytes")
    return content


def copy_file(path: Path, target: Path) -> None:
    """Copy a regular file.

    Raises:
        AdapterError: as `open_file`, or corrupt (it can be read no further).
        OSError: the copy cannot be written.
    """
    with open_file(path) as original, target.open("wb") as copy:
        while block := _read(original, path, _BLOCK):
            copy.write(block)


def file_size(path: Path) -> int:
    """Length of a regular file, in bytes; raises as `open_file`."""
    with open_file(path) as file:
        return os.fstat(file.fileno()).st_size


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        AdapterError: as `open_file`, or corrupt.
    """
    with open_file(path) as file:
        try:
            start = _read(file, path, FIRST_BYTES)
            start += _read(file, path, header_length(start) - len(start))
            return parse_header(start, os.fstat(file.fileno()).st_size)
        except BadHeaderError as error:
            raise AdapterError(Reason.CORRUPT, f"{path.name} {error}") from error


def _read(file: BufferedReader, path: Path, length: int) -> bytes:
    try:
        return file.read(max(length, 0))
    except OSError as error:
        raise AdapterError(Reason.CORRUPT, f"{path}: {error.strerror}") from error


def _kind(path: Path) -> str | None:
    try:
        return _named(path.stat().st_mode)
    except OSError:
        return None


def _named(mode: int) -> str | None:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), None)
