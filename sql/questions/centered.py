"""Domains after subtracting what all adapters of a base share, such as an assistant's style."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from hubdelta.schemas.errors import QueryError
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.families import opened
from hubdelta.sql.cache.flat_deltas import FlatDeltasError
from hubdelta.sql.cache.ingest import linkage_rows
from hubdelta.sql.connection import Queries
from hubdelta.vectors.linkage import link

_ROWS = 4096


@contextmanager
def centered(queries: Queries, base: str | None = None) -> Iterator[None]:
    """Within the block, domains are based on distances between centered vectors.

    The mean of its family is subtracted from each unit vector. Unlike the stored linkage, which
    grows with the index, this one is computed from scratch: all pairs of a family are compared.

    Args:
        queries: the index.
        base: the base whose domains will be queried; None for every base.

    Raises:
        QueryError: there is no cache to read the vectors from, or it is damaged.
    """
    queries.link()
    if queries.parquet is not None:
        raise QueryError("centering needs the cache, which cannot be written here")
    database = queries.database
    database.execute("CREATE OR REPLACE TEMP TABLE centered_linkage AS FROM cache.linkage LIMIT 0")
    try:
        with opened(database, queries.deltas, base) as families:
            for family, units in families:
                center(units)
                database.register("added", linkage_rows(family, link(units)))
                database.execute("INSERT INTO centered_linkage BY NAME FROM added")
                database.unregister("added")
    except FlatDeltasError as error:
        cache.remove(queries.index)
        raise QueryError(f"the cache was damaged and is removed, ask again: {error}") from error
    database.execute("CREATE OR REPLACE VIEW hubdelta.linkage AS FROM temp.centered_linkage")
    try:
        yield
    finally:
        if queries.database is database:  # a new connection has the stored linkage anyway
            database.execute("CREATE OR REPLACE VIEW hubdelta.linkage AS FROM cache.linkage")


def center(units: npt.NDArray[np.float32]) -> None:
    """Subtract from each unit vector their mean, in place, and scale it to length one again.

    A vector equal to the mean, up to rounding, has no direction left and stays as it is.

    Args:
        units: [vectors, hidden].
    """
    mean = np.zeros(units.shape[1])
    for start in range(0, len(units), _ROWS):
        mean += units[start : start + _ROWS].sum(axis=0, dtype=np.float64)
    mean /= max(len(units), 1)
    for start in range(0, len(units), _ROWS):
        rows = units[start : start + _ROWS] - mean
        norms = np.linalg.norm(rows, axis=1)
        has_direction = norms > 1e-6
        rows[has_direction] /= norms[has_direction, None]
        rows[~has_direction] = units[start : start + _ROWS][~has_direction]
        units[start : start + _ROWS] = rows
