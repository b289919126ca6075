"""Vectors that are comparable with each other: those of one base and recipe."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdelta.sql.cache.flat_deltas import Deltas, checked
from hubdelta.vectors.linkage import Linkage

_ROWS = 2048


@dataclass(frozen=True)
class VectorFamily:
    """The newest comparable vectors of one base and recipe, in a cache attached as `cache`.

    Attributes:
        base: the base model.
        recipe_id: the recipe.
        hidden: the length of the vectors.
        adapters: their names, `org/name[/subfolder]`.
        revisions: their commits.
        places: int64 [vectors], the row of each in the stored vectors; ascending.
        slots: int64 [vectors], the row of each in the deltas of that length; ascending.
        folds: uint32 [vectors], the checksums of their deltas.
    """

    base: str
    recipe_id: str
    hidden: int
    adapters: list[str]
    revisions: list[str]
    places: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    folds: npt.NDArray[np.uint32]


def read_family(database: duckdb.DuckDBPyConnection, base: str, recipe_id: str) -> VectorFamily:
    """The current family of a base and recipe, in the order in which it was stored."""
    rows = _arrow(
        database,
        "SELECT c.adapter, c.revision, c.place, c.hidden, c.slot, c.fold FROM cache.sketched AS c"
        " WHERE c.newest AND c.base = ? AND c.recipe_id = ? ORDER BY c.place",
        [base, recipe_id],
    )
    return VectorFamily(
        base=base,
        recipe_id=recipe_id,
        hidden=rows["hidden"][0].as_py() if len(rows) else 0,
        adapters=rows["adapter"].to_pylist(),
        revisions=rows["revision"].to_pylist(),
        places=rows["place"].to_numpy(),
        slots=rows["slot"].to_numpy(),
        folds=rows["fold"].to_numpy(),
    )


@contextmanager
def opened(
    database: duckdb.DuckDBPyConnection, deltas: Deltas, base: str | None
) -> Iterator[list[tuple[VectorFamily, npt.NDArray[np.float32]]]]:
    """Every family of a base (None: of each base), each with its unit vectors [vectors, hidden].

    Args:
        database: the cache is attached as `cache`.
        deltas: those of the cache.
        base: the base.

    Raises:
        FlatDeltasError: a delta does not match the cache.
    """
    keys = database.execute(
        "SELECT DISTINCT c.base, c.recipe_id FROM cache.sketched AS c"
        " WHERE c.newest AND ($base IS NULL OR c.base = $base) ORDER BY ALL",
        {"base": base},
    ).fetchall()
    with ExitStack() as stack:
        families = [read_family(database, *key) for key in keys]
        yield [(one, stack.enter_context(unit_vectors(deltas, one))) for one in families]


@contextmanager
def unit_vectors(deltas: Deltas, family: VectorFamily) -> Iterator[npt.NDArray[np.float32]]:
    """A family's vectors, each of length one.

    They are in a temporary file, which the system keeps in memory if there is room.

    Args:
        deltas: those of the cache.
        family: the family.

    Yields:
        [vectors, hidden], in the order of `family.adapters`.

    Raises:
        FlatDeltasError: a delta does not match the cache.
    """
    with temporary_array(len(family.slots), family.hidden) as units:
        for start in range(0, len(units), _ROWS):
            mine = slice(start, start + _ROWS)
            units[mine] = unit(
                checked(deltas, family.hidden, family.slots[mine], family.folds[mine])
            )
        yield units


def unit(deltas: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Nonzero vectors [vectors, hidden], scaled to length one."""
    scaled: npt.NDArray[np.float64] = deltas / np.linalg.norm(
        deltas.astype(np.float64), axis=1, keepdims=True
    )
    return scaled


@contextmanager
def temporary_array(rows: int, columns: int) -> Iterator[npt.NDArray[np.float32]]:
    """An array of zeros [rows, columns] in a temporary file.

    The system keeps it in memory if there is room.
    """
    if not rows * columns:
        yield np.empty((rows, columns), np.float32)
        return
    with tempfile.TemporaryFile(prefix="hubdelta-") as file:
        # So that a full disk is an error here, not a fault at the first write to a page.
        os.posix_fallocate(file.fileno(), 0, rows * columns * 4)
        yield np.memmap(file, np.float32, "w+", shape=(rows, columns))


def read_linkage(
    database: duckdb.DuckDBPyConnection, family: VectorFamily
) -> tuple[Linkage, npt.NDArray[np.int64]]:
    """The linkage of a family, or of an earlier state of it, as stored in the cache.

    Returns:
        The linkage, its vertices numbered in the order of their places, and each vertex's row in
        the family, -1 for a vector that has left it.
    """
    rows = _arrow(
        database,
        "SELECT l.place, l.gap, l.parent FROM cache.linkage AS l"
        " WHERE l.base = ? AND l.recipe_id = ? ORDER BY l.position",
        [family.base, family.recipe_id],
    )
    places = rows["place"].to_numpy()
    earlier = np.sort(places)
    linkage = Linkage(
        order=np.searchsorted(earlier, places),
        gap=rows["gap"].to_numpy().astype(np.float32),
        parent=np.where(
            rows["parent"].is_null().to_numpy(),
            -1,
            np.searchsorted(earlier, rows["parent"].fill_null(0).to_numpy()),
        ),
    )
    rows_now = np.searchsorted(family.places, earlier)
    found = rows_now < len(family.places)
    found[found] = family.places[rows_now[found]] == earlier[found]
    return linkage, np.where(found, rows_now, -1)


def _arrow(database: duckdb.DuckDBPyConnection, query: str, parameters: list[str]) -> pa.Table:
    return database.sql(query, params=parameters).to_arrow_table()
