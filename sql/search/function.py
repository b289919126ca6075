"""The SQL functions that queries over the cache use: the search for neighbors, and deltas.

The search is array products, which numpy computes in less time than DuckDB needs to plan an
equivalent query. Deltas are in flat files that numpy maps into memory.
"""

import inspect
import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from duckdb.func import ARROW, SPECIAL

from hubdelta.sql.cache.flat_deltas import Deltas, FlatDeltasError, checked
from hubdelta.sql.search.bound import Bound, Rows
from hubdelta.sql.search.sketched import ANSWERED, Sketched
from hubdelta.vectors.arrow_buffers import column, numbers

_SEARCH = "hubdelta_search"
_DELTA = "hubdelta_delta"
_FOUND = (
    "STRUCT(adapter VARCHAR, similarity DOUBLE, distance DOUBLE, signal DOUBLE, downloads BIGINT,"
    " license VARCHAR, datasets VARCHAR[], base VARCHAR, repo_id VARCHAR, subfolder VARCHAR,"
    " revision VARCHAR)[]"
)
_COLUMNS = (ANSWERED[0], "similarity", "distance", *ANSWERED[1:])
_NAMED = ("adapter", "repo_id")
_NEAREST_FIRST = [("similarity", "descending"), *((name, "ascending") for name in _NAMED)]


class Search:
    """Answers two functions in the queries of one connection.

    hubdelta_search(adapter, k, distance, exact) finds neighbors, and
    hubdelta_delta(hidden, slot, fold) is a delta.

    Attributes:
        is_damaged: whether the cache could not be read, or a delta did not match it.
        stopped: set by another thread to end an answer early.
        deltas: those of the cache; none when it is closed.
    """

    def __init__(self, database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
        """Register the functions.

        Args:
            database: the cache is attached to it as `cache`.
            deltas: the cache's deltas.
        """
        self.is_damaged = False
        self.stopped = threading.Event()
        # A query must not run another one on its own connection.
        self._cursor = database.cursor()
        self.deltas = deltas
        self._load: Callable[[], Sketched] | None = partial(Sketched, self._cursor, deltas)
        self._sketched: Sketched | None = None
        self._lock = threading.Lock()
        database.create_function(
            _SEARCH,
            _weakly(self.answers),
            ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"],
            _FOUND,
            type=ARROW,
            null_handling=SPECIAL,
            side_effects=True,  # it has none, but an answer must not be folded into a plan
        )
        database.create_function(
            _DELTA,
            _weakly(self.delta_lists),
            ["INTEGER", "BIGINT", "UINTEGER"],
            "FLOAT[]",
            type=ARROW,
        )

    def close(self) -> None:
        """Close the files: the connection that reads the table, and the deltas."""
        self._cursor.close()
        self._load, self._sketched, self.deltas = None, None, {}

    def answers(
        self, adapters: pa.Array, ks: pa.Array, distances: pa.Array, exact: pa.Array
    ) -> pa.Array:
        """The function's result for each row of its arguments."""
        arguments = zip(
            *(column.to_pylist() for column in (adapters, ks, distances, exact)), strict=True
        )
        with self._reading() as sketched:
            found = [self._find(sketched, *row) for row in arguments]
        ends = np.cumsum([0, *(len(rows) for rows in found)], dtype=np.int32)
        return pa.ListArray.from_arrays(column(ends, pa.int32()), pa.concat_arrays(found))

    def delta_lists(self, hidden: pa.Array, slots: pa.Array, folds: pa.Array) -> pa.Array:
        """What the other function gives for each row of its arguments."""
        lengths, slot = numbers(hidden, np.int32), numbers(slots, np.int64)
        fold = numbers(folds, np.uint32)
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
        lists = [self._lists(int(lengths[rows[0]]), slot[rows], fold[rows]) for rows in groups]
        if len(lists) == 1:
            return lists[0]
        if not lists:  # DuckDB leaves out rows with a null, and all of them had one
            return pa.array([], pa.list_(pa.float32()))
        order = np.argsort(np.concatenate(groups))
        return pa.concat_arrays(lists).take(column(order, pa.int64()))

    def _lists(self, hidden: int, slots: Rows, folds: npt.NDArray[np.uint32]) -> pa.Array:
        """The deltas of one length."""
        try:
            deltas = checked(self.deltas, hidden, slots, folds)
        except FlatDeltasError:
            self.is_damaged = True
            raise
        ends = np.arange(len(slots) + 1, dtype=np.int32) * np.int32(hidden)
        values = column(deltas.reshape(-1), pa.float32())
        return pa.ListArray.from_arrays(column(ends, pa.int32()), values)

    def nearest(self, adapter: str, k: int | None, distance: float | None) -> pa.Table:
        """The rows of `neighbors(adapter, k := k)` or, given a distance, of `within`.

        Raises:
            FlatDeltasError: a delta does not match the cache.
            duckdb.Error: the cache cannot be read.
        """
        with self._reading() as sketched:
            found = self._find(sketched, adapter, k, distance, exact=False)
        return pa.Table.from_batches([pa.RecordBatch.from_struct_array(found)])

    @contextmanager
    def _reading(self) -> Iterator[Sketched]:
        with self._lock:  # DuckDB may call it from several threads at once
            try:
                if self._sketched is None:
                    if self._load is None:
                        raise duckdb.ConnectionException("the index is closed")
                    self._sketched = self._load()
                yield self._sketched
            except (duckdb.Error, FlatDeltasError):
                self.is_damaged = True
                raise

    def _find(
        self,
        sketched: Sketched,
        adapter: str | None,
        k: int | None,
        distance: float | None,
        exact: bool | None,
    ) -> pa.StructArray:
        """The neighbors of one adapter, nearest first."""
        if self.stopped.is_set():
            raise InterruptedError("stopped")
        if k is not None and k < 0:
            raise ValueError("k cannot be negative")
        target = None if adapter is None else sketched.target(adapter)
        if target is None or (k is None and (distance is None or math.isnan(distance))):
            rows, cosines = np.empty(0, np.int64), np.empty(0)
        else:
            pool = sketched.pool_of(target)
            rows, cosines = pool.nearest(target, Bound(k, distance), exact=bool(exact))
        return _nearest_first(sketched, rows, rounded(cosines), k=k, distance=distance)


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rounded to six decimals, halves away from zero, never -0: as `round(x, 6) + 0` in DuckDB."""
    scaled = values * 1e6
    whole = np.trunc(scaled)
    whole += np.copysign(np.abs(scaled - whole) >= 0.5, scaled)
    return whole / 1e6 + 0.0


def _nearest_first(
    sketched: Sketched,
    rows: Rows,
    similarities: npt.NDArray[np.float64],
    *,
    k: int | None,
    distance: float | None,
) -> pa.StructArray:
    """The rows that are near enough, in the form of the macros' answers."""
    distances = rounded(1 - similarities)
    if distance is not None:
        near = np.flatnonzero(distances <= distance)
        rows, similarities, distances = rows[near], similarities[near], distances[near]
        k = None
    keys = sketched.answer(rows, _NAMED)
    keys = keys.append_column("similarity", column(similarities, pa.float64()))
    order = pc.sort_indices(keys, _NEAREST_FIRST)
    first = numbers(order, np.uint64)[:k].astype(np.int64)
    adapter, *more = sketched.answer(rows[first]).columns
    how_near = (column(values[first], pa.float64()) for values in (similarities, distances))
    return pa.StructArray.from_arrays([adapter, *how_near, *more], _COLUMNS)


def _weakly(method: Callable[..., pa.Array]) -> Callable[..., pa.Array]:
    """A method of a search as a function for DuckDB, which does not keep the search alive.

    DuckDB holds its functions, and the search holds a connection to DuckDB. Python cannot see that
    cycle, and would report leaks at exit.
    """
    reference = weakref.WeakMethod(method)

    def answer(*arguments: pa.Array) -> pa.Array:
        alive = reference()
        if alive is None:
            raise ReferenceError("the index is closed")
        return alive(*arguments)

    # DuckDB counts the parameters.
    answer.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return answer
