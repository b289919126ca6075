"""The cache's deltas in flat files beside it, so that numpy can map rows without a query.

`<index>/hubdelta.deltas/<edition>-<hidden>.f32` holds the deltas of one length in the order in
which they were added, as little-endian float32 and nothing else. A file is only ever appended to or
replaced, so readers of an earlier state of the cache keep their snapshot; a rebuilt cache has a new
edition. The cache holds the row number of each delta (its slot) and a checksum (its fold), which
reveals damage when the row is read.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt

from hubdelta.schemas.index import Index

_FOLDER = "hubdelta.deltas"

_STORED = np.dtype("<f4")


Deltas = Mapping[int, npt.NDArray[np.float32]]
"""float32 [stored vectors, hidden], by `hidden`."""

_COPIED = 2**24  # bytes

_CHECKED = 2048  # rows: 32 MB of a model with 4,096 dimensions


class FlatDeltasError(Exception):
    """A file is missing, or does not match the cache."""


def new_edition() -> str:
    """A unique prefix for the names of one cache's files."""
    return secrets.token_hex(8)


def edition_of(database: duckdb.DuckDBPyConnection) -> str:
    """The edition of the cache attached as `cache`."""
    ((edition,),) = database.execute("SELECT f.edition FROM cache.facts AS f").fetchall()
    return str(edition)


def append(index: Index, edition: str, slot: int, deltas: npt.NDArray[np.float32]) -> None:
    """Append rows after the first `slot` ones, which the cache holds.

    Args:
        index: the index.
        edition: of its cache.
        slot: how many rows the cache holds; all of them are in the file.
        deltas: [rows, hidden].

    Raises:
        FlatDeltasError: the rows that the cache holds are missing.
        OSError: no space, no permission.
    """
    path = _path(index, edition, deltas.shape[1])
    held = slot * deltas.shape[1] * _STORED.itemsize
    if path.parent.is_file():
        path.parent.unlink()
    path.parent.mkdir(exist_ok=True)
    there = path.stat().st_size if path.exists() else 0
    if there < held:
        raise FlatDeltasError(f"{path} ends too early")
    if there > held:  # others may have mapped what an interrupted run left there
        _copy_start(path, held)
    with path.open("ab") as file:
        np.ascontiguousarray(deltas, _STORED).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def mapped(database: duckdb.DuckDBPyConnection, index: Index) -> Deltas:
    """The deltas of the cache attached as `cache`, by vector length: [rows, hidden] each.

    Raises:
        FlatDeltasError: a file is missing or too short.
    """
    edition = edition_of(database)
    rows = database.execute(
        "SELECT v.hidden, max(v.slot) + 1 FROM cache.stored_vectors AS v"
        " WHERE v.hidden > 0 GROUP BY v.hidden"
    ).fetchall()
    return {hidden: _mapped(_path(index, edition, hidden), count, hidden) for hidden, count in rows}


def folds(deltas: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """A checksum of each row of [vectors, hidden]: the exclusive or of its words."""
    words = np.ascontiguousarray(deltas, _STORED).view(np.uint32)
    found: npt.NDArray[np.uint32] = np.bitwise_xor.reduce(words, axis=1)
    return found


def checked(
    deltas: Deltas, hidden: int, slots: npt.NDArray[np.int64], folds: npt.NDArray[np.uint32]
) -> npt.NDArray[np.float32]:
    """Some deltas of one length, [vectors, hidden]; a view if they are contiguous.

    Args:
        deltas: those of the cache.
        hidden: the length.
        slots: which rows of that length, [vectors].
        folds: their checksums in the cache, [vectors].

    Raises:
        FlatDeltasError: one does not match the cache.
    """
    rows = at_slots(deltas.get(hidden, np.empty((0, hidden), np.float32)), slots)
    check_folds(rows, folds)
    return rows


def at_slots(
    deltas: npt.NDArray[np.float32], slots: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Some rows of [stored vectors, hidden]; a view if they are contiguous."""
    if len(slots) and (np.diff(slots) == 1).all():
        return deltas[slots[0] : slots[-1] + 1]
    return deltas[slots]


def check(database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
    """Check the deltas of all vectors.

    Args:
        database: the cache is attached as `cache`.
        deltas: its deltas.

    Raises:
        FlatDeltasError: one does not match the cache.
    """
    for hidden, rows in deltas.items():
        found = database.execute(
            "SELECT v.fold FROM cache.stored_vectors AS v WHERE v.hidden = ? ORDER BY v.slot",
            [hidden],
        ).fetchnumpy()
        expected = np.asarray(found["fold"])
        for start in range(0, len(rows), _CHECKED):
            mine = slice(start, start + _CHECKED)
            check_folds(rows[mine], expected[mine])


def check_folds(deltas: npt.NDArray[np.float32], expected: npt.NDArray[np.uint32]) -> None:
    """Compare deltas [vectors, hidden] with the cache's checksums.

    Raises:
        FlatDeltasError: one does not match.
    """
    if not np.array_equal(folds(deltas), expected):
        raise FlatDeltasError("the flat deltas do not match the cache")


def files(index: Index) -> list[Path]:
    """All flat files, of every edition."""
    return sorted((index.root / _FOLDER).glob("*.f32*"))


def keep_only(index: Index, edition: str | None) -> None:
    """Remove unfinished files and the files of other editions; of all editions if None."""
    for path in files(index):
        if edition is None or not path.match(f"{edition}-*.f32"):
            path.unlink(missing_ok=True)


def _copy_start(path: Path, size: int) -> None:
    """Replace a file by its first bytes; those who have it open keep the whole."""
    copy = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with path.open("rb") as source, copy.open("xb") as target:
        while block := source.read(min(_COPIED, size - target.tell())):
            target.write(block)
    copy.replace(path)


def _mapped(path: Path, count: int, hidden: int) -> npt.NDArray[np.float32]:
    try:
        if path.stat().st_size < count * hidden * _STORED.itemsize:
            raise FlatDeltasError(f"{path} ends too early")
        # A plain array: indexing a memmap is slow.
        return np.asarray(np.memmap(path, _STORED, "r", shape=(count, hidden)))
    except OSError as error:
        raise FlatDeltasError(f"{path} cannot be read: {error.strerror}") from error


def _path(index: Index, edition: str, hidden: int) -> Path:
    return index.root / _FOLDER / f"{edition}-{hidden:d}.f32"
