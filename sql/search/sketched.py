"""The comparable vectors of a cache in memory: sketches choose candidates, cosines rank them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdelta.sql.cache.flat_deltas import Deltas, at_slots, check_folds
from hubdelta.sql.search.bound import Bound, Cosines, Rows
from hubdelta.vectors.arrow_buffers import column, numbers
from hubdelta.vectors.sketch import BITS, WORDS

_ROUNDED = 2e-6
"""Answers give cosines to six decimals: values this close to a bound may tie with it."""

_COMPARED = 10240
"""Sketches compared at once: more overflow a core's cache, fewer need more numpy calls."""

_MULTIPLIED = 2**17
"""Vector elements multiplied at once: a megabyte in float64, which fits a core's cache."""

ANSWERED = (
    *("adapter", "signal", "downloads", "license", "datasets", "base", "repo_id", "subfolder"),
    "revision",
)
"""Columns of the table `sketched` that answers include."""

_WITHIN_BASE = ("repo_id", "subfolder", "revision")

_F = TypeVar("_F", np.float32, np.float64)


@dataclass(frozen=True)
class VectorPool:
    """The current vectors of adapters, of one base, recipe and length.

    Attributes:
        rows: int64 [vectors], their rows in the table.
        words: uint64 [WORDS, vectors], their sketches.
        deltas: float32 [stored vectors, hidden].
        slots: int64 [vectors], the row of each in `deltas`; ascending.
        norms: float64 [vectors].
        folds: uint32 [vectors], checksums of their deltas.
        sound: bool [vectors], whether the delta has been checked.
    """

    rows: Rows
    words: npt.NDArray[np.uint64]
    deltas: npt.NDArray[np.float32]
    slots: Rows
    norms: npt.NDArray[np.float64]
    folds: npt.NDArray[np.uint32]
    sound: npt.NDArray[np.bool_]

    def nearest(self, target: "Target", bound: Bound, *, exact: bool) -> tuple[Rows, Cosines]:
        """The vectors nearest to a target, unordered, without those of its own adapter.

        Args:
            target: the target.
            bound: how many, or how far.
            exact: compare with every vector instead of those with the nearest sketches.

        Returns:
            Their rows in the table, and their cosines in float64.

        Raises:
            FlatDeltasError: a delta does not match the cache.
        """
        check_folds(self.deltas[[target.slot]], np.array([target.fold], np.uint32))
        origin = self.deltas[target.slot].astype(np.float64)
        own = np.searchsorted(self.slots, target.own)
        if exact:
            chosen = np.delete(np.arange(len(self.rows)), own)
        else:
            differing = self._differing(target.words)
            differing[own] = BITS + 1
            chosen = bound.candidates(differing)
        near = self._near_cosines(chosen, (origin / target.norm).astype(np.float32))
        chosen = chosen[bound.reached(near, self._error + _ROUNDED)]
        cosines = self._cosines(chosen, origin)
        kept = bound.reached(cosines, _ROUNDED)
        return self.rows[chosen[kept]], cosines[kept]

    def _differing(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
        """The number of bits in which each sketch differs from one [WORDS]."""
        differing = np.empty(len(self.rows), np.uint16)
        size = min(_COMPARED, len(differing))
        unlike, count = np.empty((WORDS, size), np.uint64), np.empty((WORDS, size), np.uint8)
        for start in range(0, len(differing), _COMPARED):
            mine = self.words[:, start : start + _COMPARED]
            unlike, count = unlike[:, : mine.shape[1]], count[:, : mine.shape[1]]
            np.bitwise_xor(mine, words[:, np.newaxis], out=unlike)
            np.bitwise_count(unlike, out=count)
            np.add.reduce(count, axis=0, out=differing[start : start + _COMPARED])
        return differing

    def _near_cosines(
        self, chosen: Rows, direction: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """The cosine of each chosen vector with a direction, in float32, off by at most `_error`.

        Raises:
            FlatDeltasError: a delta does not match the cache.
        """
        found = np.empty(len(chosen), np.float32)
        for part in _parts(len(chosen), 64 * self._rows_at_once):
            mine = chosen[part]
            deltas = self._deltas_at(mine)
            if not self.sound[mine].all():
                check_folds(deltas, self.folds[mine])
                self.sound[mine] = True
            found[part] = _dots(deltas, direction) / self.norms[mine]
        return found

    def _cosines(self, chosen: Rows, origin: npt.NDArray[np.float64]) -> Cosines:
        """The cosine of each chosen vector with `origin`, rounded like list_cosine_similarity."""
        found = np.empty(len(chosen))
        for part in _parts(len(chosen), self._rows_at_once):
            deltas = self._deltas_at(chosen[part]).astype(np.float64)
            squares = np.einsum("ij,ij->i", deltas, deltas) * (origin @ origin)
            found[part] = _dots(deltas, origin) / np.sqrt(squares)
        return found

    @property
    def _hidden(self) -> int:
        return int(self.deltas.shape[1])

    @property
    def _rows_at_once(self) -> int:
        return max(1, _MULTIPLIED // self._hidden)

    @property
    def _error(self) -> float:
        """Twice the bound of a product of d terms, each rounded to 24 bits.

        Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 3.1.
        """
        return 2 * self._hidden * 2.0**-24

    def _deltas_at(self, chosen: Rows) -> npt.NDArray[np.float32]:
        return at_slots(self.deltas, self.slots[chosen])


@dataclass(frozen=True)
class Target:
    """The vector whose neighbors are searched for.

    Attributes:
        family: the number of its family.
        hidden: the length of its delta.
        slot: its row of the deltas of that length.
        norm: its length.
        fold: checksum of its delta.
        words: uint64 [WORDS], its sketch.
        own: int64 [current vectors of its adapter], their rows of those deltas.
    """

    family: int
    hidden: int
    slot: int
    norm: float
    fold: int
    words: npt.NDArray[np.uint64]
    own: Rows


class Sketched:
    """The table `sketched` of a cache attached as `cache`."""

    def __init__(self, database: duckdb.DuckDBPyConnection, deltas: Deltas) -> None:
        """Read the table.

        Args:
            database: the cache is attached to it.
            deltas: the cache's deltas.
        """
        columns = ", ".join(f"c.{name}" for name in ANSWERED)
        rows = database.sql(
            f"SELECT {columns}, c.recipe_id, epoch_us(c.embedded_at) AS embedded_at,"  # noqa: S608 (constants)
            " c.current::UTINYINT AS current, c.family, c.hidden, c.slot, c.norm, c.fold, c.sketch,"
            " length(c.repo_id) AS repo_length"
            " FROM cache.sketched AS c"
        ).to_arrow_table()
        sketches = rows["sketch"].combine_chunks()
        self._words = np.array([numbers(sketches.field(word), np.uint64) for word in range(WORDS)])
        self._answered = _one_batch(rows.select(ANSWERED))
        adapters = rows["adapter"].combine_chunks().dictionary_encode()
        names = adapters.dictionary.to_pylist()
        self._code_of: dict[str, int] = dict(zip(names, range(len(names)), strict=True))
        self._codes = numbers(adapters.indices, np.int32)
        self._recipes = rows["recipe_id"]
        self._embedded_at = numbers(rows["embedded_at"], np.int64)
        self._repo_lengths = numbers(rows["repo_length"], np.int64)
        self._is_current = numbers(rows["current"], np.uint8) == 1
        self._family_of = numbers(rows["family"], np.int32)
        self._hidden = numbers(rows["hidden"], np.int32)
        self._slots = numbers(rows["slot"], np.int64)
        self._norms = numbers(rows["norm"], np.float64)
        self._folds = numbers(rows["fold"], np.uint32)
        self._deltas = deltas
        self._pools: dict[int, VectorPool] = {}

    def answer(self, rows: Rows, columns: Sequence[str] = ANSWERED) -> pa.RecordBatch:
        """Columns of some rows of the table, by default those of answers."""
        return self._answered.select(columns).take(column(rows, pa.int64()))

    def target(self, name: str) -> Target | None:
        """The vector that a name refers to, as in the macro hubdelta.target; None if none."""
        rows = self._rows_of(name)
        rows = rows[self._is_current[rows]]
        adapter, at, revision = name.rpartition("@")
        if at:
            of_adapter = self._rows_of(adapter)
            revisions = self.answer(of_adapter)["revision"].to_pylist()
            at_revision = [mine == revision for mine in revisions]
            rows = np.concatenate([rows, of_adapter[np.array(at_revision, bool)]])
        if not len(rows):
            return None
        row = int(rows[0]) if len(rows) == 1 else min(rows.tolist(), key=self._standing)
        # `a/b` with the subfolder `c` has the same name as the local folder `a/b/c`.
        own = np.flatnonzero(self._codes == self._codes[row])
        comparable = self._is_current[own] & (self._family_of[own] == self._family_of[row])
        own = own[comparable & (self._repo_lengths[own] == self._repo_lengths[row])]
        return Target(
            family=int(self._family_of[row]),
            hidden=int(self._hidden[row]),
            slot=int(self._slots[row]),
            norm=float(self._norms[row]),
            fold=int(self._folds[row]),
            words=self._words[:, row],
            own=self._slots[own],
        )

    def _rows_of(self, adapter: str) -> Rows:
        return np.flatnonzero(self._codes == self._code_of.get(adapter, -1))

    def pool_of(self, target: Target) -> VectorPool:
        """The vectors that a target is compared with."""
        if target.family not in self._pools:
            mine = self._family_of == target.family
            rows = np.flatnonzero(mine & self._is_current)
            rows = rows[np.argsort(self._slots[rows])]
            self._pools[target.family] = VectorPool(
                rows=rows,
                words=np.ascontiguousarray(self._words[:, rows]),
                deltas=self._deltas[target.hidden],
                slots=self._slots[rows],
                norms=self._norms[rows],
                folds=self._folds[rows],
                sound=np.zeros(len(rows), bool),
            )
        return self._pools[target.family]

    def _standing(self, row: int) -> tuple[object, ...]:
        """The sort key of hubdelta.target: of several vectors with a name, the first one counts."""
        made = int(self._embedded_at[row])
        of = {name: self._answered[name][row].as_py() for name in ("base", *_WITHIN_BASE)}
        recipe = self._recipes[row].as_py()
        return (-made, of["base"], recipe, *(of[name] for name in _WITHIN_BASE))


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    chunks = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(chunks, schema=table.schema)


def _dots(deltas: npt.NDArray[_F], direction: npt.NDArray[_F]) -> npt.NDArray[_F]:
    """The product of [vectors, hidden] and [hidden]."""
    if deltas.size > 8 * _MULTIPLIED:
        return deltas @ direction
    # Waking threads to share so small a product takes longer than computing it.
    dots: npt.NDArray[_F] = np.vecdot(deltas, direction)
    return dots


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
