"""Sketches of vectors: signs of a fixed random projection, used to choose candidates."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

VERSION = 1
"""Raised whenever the sketch of a vector changes."""

BITS = 1024
WORDS = BITS // 64

_SEED = 2509_04442


def sketches(units: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The sketch of each vector.

    Two vectors at an angle of a radians differ in each bit with probability a / pi (Charikar,
    "Similarity estimation techniques from rounding algorithms", STOC 2002). The projection depends
    on the dimension alone: a vector's sketch never changes when others are added.

    Args:
        units: [vectors, hidden], of any nonzero length.

    Returns:
        [vectors, WORDS]; signed, since DuckDB's bit_count takes no unsigned 64-bit integers.
    """
    signs = units @ _directions(units.shape[1]) > 0
    return np.packbits(signs, axis=1).view(np.int64)


@lru_cache(maxsize=4)
def _directions(hidden: int) -> npt.NDArray[np.float32]:
    """[hidden, BITS]; numpy freezes RandomState's stream (NEP 19), but not Generator's."""
    random = np.random.RandomState(_SEED % 2**32)
    return random.standard_normal((hidden, BITS)).astype(np.float32)
