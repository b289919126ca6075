"""numpy's exact answers for vectors in memory, which other answers are measured against."""

from collections.abc import Sequence

import numpy as np
from delta_geometry import Floats

_TIE = 1e-6
"""Cosines no further apart are ties: `neighbors` gives six decimals, and float32 carries them."""


def nearest(units: Floats, number: int, k: int) -> list[int]:
    """The k nearest to one of [n, d] unit vectors, nearest first, itself left out."""
    cosines = units @ units[number]
    cosines[number] = -2
    best = np.argpartition(cosines, -k)[-k:]
    return [int(place) for place in best[np.argsort(-cosines[best])]]


def recall(units: Floats, number: int, found: Sequence[int], exact: Sequence[int]) -> float:
    """The share of the exact neighbors that were found; ties with the last count too."""
    least = float(units[exact[-1]] @ units[number]) - _TIE
    right = units[list(found)] @ units[number] >= least
    return float(right.sum()) / len(exact)


def close_pairs(units: Floats, distance: float, rows: int = 1024) -> set[tuple[int, int]]:
    """Pairs of [n, d] unit vectors nearer than a cosine distance, by products of blocks.

    Pairs so close to the distance that rounding decides are excluded.
    """
    found = set()
    for start in range(0, len(units), rows):
        cosines = units[start : start + rows] @ units[start:].T
        for a, b in np.argwhere(cosines >= 1 - distance + _TIE).tolist():
            if a < b:
                found.add((start + a, start + b))
    return found
