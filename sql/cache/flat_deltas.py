"""The cache's deltas once more as flat files, which numpy maps into memory: rows without a query.

`<index>/hubdelta.deltas/<edition>-<hidden>.f32` holds the rows of the table deltas_<hidden>, as
little-endian float32 and nothing else. A file is only ever appended to, or replaced by another one,
so that whoever has an earlier state of the cache open keeps what they see; a cache that is made
anew has another edition. Each row's fold stands in the cache: it tells damage when a row is read.
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
    """A file is missing, or does not hold what the cache says."""


def new_edition() -> str:
    """A name that the files of one cache begin with, and those of no other."""
    return secrets.token_hex(8)


def edition_of(database: duckdb.DuckDBPyConnection) -> str:
    """That of the cache which is attached as `cache`."""
    ((edition,),) = database.execute("SELECT f.edition FROM cache.facts AS f").fetchall()
    return str(edition)


def append(index: Index, edition: str, slot: int, deltas: npt.NDArray[np.float32]) -> None:
    """Add rows behind the first `slot` ones, which the cache holds.

    Args:
        index: the index.
        edition: of its cache.
        slot: how many rows the cache holds, each of them written.
        deltas: [rows, hidden].

    Raises:
        FlatDeltasError: the rows that the cache holds are not there.
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
    if there > held:  # others may have mapped what a broken-off run left there
        _copy_start(path, held)
    with path.open("ab") as file:
        np.ascontiguousarray(deltas, _STORED).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def mapped(database: duckdb.DuckDBPyConnection, index: Index) -> Deltas:
    """The deltas of the cache that is attached as `cache`, by their length: [rows, hidden] each.

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
    """The exclusive or of the words of each row, [vectors, hidden]: another one is another row."""
    words = np.ascontiguousarray(deltas, _STORED).view(np.uint32)
    found: npt.NDArray[np.uint32] = np.bitwise_xor.reduce(words, axis=1)
    return found


def check(database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
    """Read all that are comparable.

    Args:
        database: the cache is attached as `cache`.
        deltas: its deltas.

    Raises:
        FlatDeltasError: one is not that of which the cache speaks.
    """
    for hidden, rows in deltas.items():
        found = database.execute(
            "SELECT c.slot, c.fold FROM cache.sketched AS c WHERE c.hidden = ? ORDER BY c.slot",
            [hidden],
        ).fetchnumpy()
        slots, expected = np.asarray(found["slot"]), np.asarray(found["fold"])
        for start in range(0, len(slots), _CHECKED):
            mine = slice(start, start + _CHECKED)
            check_folds(rows[slots[mine]], expected[mine])


def check_folds(deltas: npt.NDArray[np.float32], expected: npt.NDArray[np.uint32]) -> None:
    """Compare some deltas, [vectors, hidden], with what the cache tells of them.

    Raises:
        FlatDeltasError: one is another.
    """
    if not np.array_equal(folds(deltas), expected):
        raise FlatDeltasError("the flat deltas are not those of the cache")


def files(index: Index) -> list[Path]:
    """All of them, of whatever edition."""
    return sorted((index.root / _FOLDER).glob("*.f32*"))


def keep_only(index: Index, edition: str | None) -> None:
    """Remove the files of all other editions, and halves of files; None: all."""
    for path in files(index):
        if edition is None or not path.match(f"{edition}-*.f32"):
            path.unlink(missing_ok=True)


def _copy_start(path: Path, size: int) -> None:
    """Put a file's first bytes in its place; who has it open keeps the whole."""
    copy = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with path.open("rb") as source, copy.open("xb") as target:
        while block := source.read(min(_COPIED, size - target.tell())):
            target.write(block)
    copy.replace(path)


def _mapped(path: Path, count: int, hidden: int) -> npt.NDArray[np.float32]:
    try:
        if path.stat().st_size < count * hidden * _STORED.itemsize:
            raise FlatDeltasError(f"{path} ends too early")
        # As a plain array: a memmap's own indexing is slow.
        return np.asarray(np.memmap(path, _STORED, "r", shape=(count, hidden)))
    except OSError as error:
        raise FlatDeltasError(f"{path} cannot be read: {error.strerror}") from error


def _path(index: Index, edition: str, hidden: int) -> Path:
    return index.root / _FOLDER / f"{edition}-{hidden:d}.f32"
