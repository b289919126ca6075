"""The cache's deltas once more as flat files, which numpy maps into memory: rows without a query.

`<index>/hubdelta.deltas/<edition>-<hidden>.f32` holds the rows of the table deltas_<hidden>, as
little-endian float32 and nothing else. Rows are only ever appended, so that whoever has an earlier
state of the cache open keeps what they see; a cache that is made anew has another edition.
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

_CHECKED = 2048


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
    """Add rows behind the first `slot` ones; what a broken-off run left there is overwritten.

    Args:
        index: the index.
        edition: of its cache.
        slot: how many rows the cache holds, each of them written.
        deltas: [rows, hidden].

    Raises:
        OSError: no space, no permission.
    """
    path = _path(index, edition, deltas.shape[1])
    path.parent.mkdir(exist_ok=True)
    with path.open("r+b" if path.exists() else "x+b") as file:
        file.truncate(slot * deltas.shape[1] * _STORED.itemsize)
        file.seek(0, os.SEEK_END)
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


def check(database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
    """Read all of them.

    Args:
        database: the cache is attached as `cache`.
        deltas: its deltas.

    Raises:
        FlatDeltasError: a comparable one has not the length that the cache tells.
    """
    for hidden, rows in deltas.items():
        found = database.execute(
            "SELECT c.slot, c.norm FROM cache.sketched AS c WHERE c.hidden = ? ORDER BY c.slot",
            [hidden],
        ).fetchnumpy()
        slots, norms = np.asarray(found["slot"]), np.asarray(found["norm"])
        for start in range(0, len(slots), _CHECKED):
            mine = slice(start, start + _CHECKED)
            check_norms(rows[slots[mine]], norms[mine])


def check_norms(deltas: npt.NDArray[np.floating], norms: npt.NDArray[np.float64]) -> None:
    """Compare the lengths of some deltas, [vectors, hidden], with those that the cache tells.

    Raises:
        FlatDeltasError: one is another.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # garbage may be anything
        deltas = deltas.astype(np.float64, copy=False)
        found = np.sqrt(np.einsum("ij,ij->i", deltas, deltas))
    if not np.all(np.abs(found / norms - 1) < 1e-6):
        raise FlatDeltasError("the flat deltas are not those of the cache")


def keep_only(index: Index, edition: str | None) -> None:
    """Remove the files of all other editions; None: of all."""
    folder = index.root / _FOLDER
    for path in folder.glob("*.f32"):
        if edition is None or not path.name.startswith(f"{edition}-"):
            path.unlink(missing_ok=True)


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
