"""The exact nearest vectors of each vector under cosine distance, computed in tiles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TILE = 2048  # vectors per side of a tile: 16 MiB of cosines
_SPARE = 8  # extra candidates kept: float32 may misorder nearly equal distances
_GATHERED = 2**22  # float64 coordinates of candidates held at once: 32 MiB
_DIGITS = 6  # decimals of a distance, as in SQL
_FARTHEST = 2.0  # the distance given to a missing neighbor: the largest possible


@dataclass(frozen=True)
class Neighbors:
    """The k nearest of each of n vectors, nearest first, ties ordered by row.

    If more vectors tie than there is room for, which of them are included is arbitrary.

    Attributes:
        index: their rows; -1 where there are fewer [n, k].
        distance: the cosine distance to each, rounded to six decimals; 2 where there is none
            [n, k].
    """

    index: NDArray[np.int32]
    distance: NDArray[np.float32]


def nearest(units: NDArray[np.float32], k: int) -> Neighbors:
    """The k nearest other vectors of each, in n²/2 cosines.

    Args:
        units: the vectors, each of length 1 [n, d]; a memory map is read by tiles.
        k: how many.
    """
    n = len(units)
    found = _Candidates.none(n, k)
    for top in range(0, n, _TILE):
        rows = units[top : top + _TILE]
        for left in range(top, n, _TILE):
            cosines = rows @ units[left : left + _TILE].T
            if left == top:
                np.fill_diagonal(cosines, -np.inf)
            else:
                found.offer(left, cosines.T, np.arange(top, top + len(rows), dtype=np.int32))
            found.offer(top, cosines, np.arange(left, left + cosines.shape[1], dtype=np.int32))
    return found.ranked(units, units, k)


def nearest_among(
    rows: NDArray[np.float32], units: NDArray[np.float32], among: NDArray[np.int64], k: int
) -> Neighbors:
    """The k nearest of the vectors `among` to each of `rows`.

    Args:
        rows: the query vectors, each of length 1 [m, d].
        units: all vectors, each of length 1 [n, d]; a memory map is read by tiles.
        among: the rows of `units` to search.
        k: how many.

    Returns:
        Rows of `units` and distances [m, k].
    """
    found = _Candidates.none(len(rows), k)
    for left in range(0, len(among), _TILE):
        chosen = among[left : left + _TILE]
        columns = units[chosen].T
        for top in range(0, len(rows), _TILE):
            found.offer(top, rows[top : top + _TILE] @ columns, chosen.astype(np.int32))
    return found.ranked(rows, units, k)


@dataclass(frozen=True)
class _Candidates:
    """The vectors with the highest cosines so far, unordered [n, candidates]."""

    index: NDArray[np.int32]
    cosine: NDArray[np.float32]

    @classmethod
    def none(cls, n: int, k: int) -> "_Candidates":
        shape = (n, k + _SPARE)
        return cls(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32))

    def offer(self, top: int, cosines: NDArray[np.float32], columns: NDArray[np.int32]) -> None:
        """Keep the best of a tile: cosines of the rows from `top` on to the rows `columns`."""
        rows = slice(top, top + len(cosines))
        both = np.concatenate([self.cosine[rows], cosines], axis=1)
        index = np.concatenate(
            [self.index[rows], np.broadcast_to(columns, (len(cosines), len(columns)))], axis=1
        )
        kept = self.cosine.shape[1]
        best = np.argpartition(both, both.shape[1] - kept, axis=1)[:, -kept:]
        self.cosine[rows] = np.take_along_axis(both, best, axis=1)
        self.index[rows] = np.take_along_axis(index, best, axis=1)

    def ranked(self, rows: NDArray[np.float32], units: NDArray[np.float32], k: int) -> Neighbors:
        """The k nearest, by distances in double precision."""
        index = np.where(np.isfinite(self.cosine), self.index, -1)
        distance = np.full(index.shape, _FARTHEST)
        step = max(_GATHERED // max(index.shape[1] * units.shape[1], 1), 1)
        for top in range(0, len(rows), step):
            part = slice(top, top + step)
            candidates = units[index[part]].astype(np.float64)  # [rows, candidates, d]
            vectors = rows[part].astype(np.float64)
            cosines = (candidates @ vectors[:, :, None])[:, :, 0]
            distance[part] = np.round(np.clip(1 - cosines, 0, _FARTHEST), _DIGITS)
        distance[index < 0] = np.inf
        last = np.where(index < 0, np.iinfo(np.int32).max, index)
        order = np.lexsort((last, distance), axis=1)[:, :k]
        distance = np.take_along_axis(distance, order, axis=1)
        distance[np.isinf(distance)] = _FARTHEST
        return Neighbors(np.take_along_axis(index, order, axis=1), distance.astype(np.float32))
