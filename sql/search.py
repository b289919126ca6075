"""The SQL function that `neighbors` and `within` rest on over the cache.

The search is products of arrays, which numpy makes in less time than DuckDB needs to plan a query
that says the same.
"""

import math
import threading
import weakref
from collections.abc import Callable
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import ARROW, SPECIAL

from hubdelta.sql.arrow_buffers import column
from hubdelta.sql.bound import Bound, Cosines, Rows
from hubdelta.sql.flat_deltas import Deltas, FlatDeltasError
from hubdelta.sql.sketched import ANSWERED, Sketched

_NAME = "hubdelta_search"
_FOUND = (
    "STRUCT(adapter VARCHAR, signal DOUBLE, downloads BIGINT, license VARCHAR, datasets VARCHAR[],"
    " base VARCHAR, repo_id VARCHAR, subfolder VARCHAR, revision VARCHAR, cosine DOUBLE)[]"
)


class Search:
    """Answers hubdelta_search(adapter, k, distance, exact) in the queries of one connection.

    Attributes:
        is_damaged: whether the cache could not be read, or a delta was not the one that it speaks
            of.
        stopped: set by another thread to end an answer early.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
        """Offer the function.

        Args:
            database: the cache is attached to it as `cache`.
            deltas: those of the cache.
        """
        self.is_damaged = False
        self.stopped = threading.Event()
        # A query must not run another one on its own connection.
        self._cursor = database.cursor()
        self._load = partial(Sketched, self._cursor, deltas)
        self._sketched: Sketched | None = None
        self._lock = threading.Lock()
        database.create_function(
            _NAME,
            _weakly(self),
            ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"],
            _FOUND,
            type=ARROW,
            null_handling=SPECIAL,
        )

    def close(self) -> None:
        """Close the connection that the table is read over."""
        self._cursor.close()

    def answers(
        self, adapters: pa.Array, ks: pa.Array, distances: pa.Array, exact: pa.Array
    ) -> pa.Array:
        """What the function gives for each row of its arguments."""
        arguments = zip(
            *(column.to_pylist() for column in (adapters, ks, distances, exact)), strict=True
        )
        with self._lock:  # DuckDB may ask in several threads at once
            try:
                if self._sketched is None:
                    self._sketched = self._load()
                found = [self._find(self._sketched, *row) for row in arguments]
            except (duckdb.Error, FlatDeltasError):
                self.is_damaged = True
                raise
            rows = self._sketched.answer(np.concatenate([rows for rows, _ in found]))
        cosines = column(np.concatenate([cosines for _, cosines in found]), pa.float64())
        answered = pa.StructArray.from_arrays([*rows.flatten(), cosines], [*ANSWERED, "cosine"])
        ends = np.cumsum([0, *(len(mine) for mine, _ in found)], dtype=np.int32)
        return pa.ListArray.from_arrays(column(ends, pa.int32()), answered)

    def _find(
        self,
        sketched: Sketched,
        adapter: str | None,
        k: int | None,
        distance: float | None,
        exact: bool | None,
    ) -> tuple[Rows, Cosines]:
        if self.stopped.is_set():
            raise InterruptedError("stopped")
        target = None if adapter is None else sketched.target(adapter)
        if target is None or (k is None and (distance is None or math.isnan(distance))):
            return np.empty(0, np.int64), np.empty(0)
        return sketched.pool_of(target).nearest(target, Bound(k, distance), exact=bool(exact))


def _weakly(search: Search) -> Callable[[pa.Array, pa.Array, pa.Array, pa.Array], pa.Array]:
    """The function for DuckDB, which does not keep the search alive.

    DuckDB holds its functions, and the search holds a connection to DuckDB: Python cannot see that
    circle, and would complain of what is left at its end.
    """
    reference = weakref.ref(search)

    def answers(adapter: pa.Array, k: pa.Array, distance: pa.Array, exact: pa.Array) -> pa.Array:
        alive = reference()
        if alive is None:
            raise ReferenceError("the index is closed")
        return alive.answers(adapter, k, distance, exact)

    return answers
