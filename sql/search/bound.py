"""How many neighbors to find, or up to what distance, in terms of sketches and cosines."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubdelta.vectors.sketch import BITS

_CANDIDATES = 0.3
"""Factor of the square root of the number of vectors times k (at least 10) to the power 3/4.

The number of candidates that include 99 % of the true neighbors grows about like that or slower,
from 10,000 to 300,000 vectors and up to 1,000 neighbors.
"""

_FEWEST, _FEWEST_PER_NEIGHBOR = 200, 10
"""Minimum numbers of candidates, for small pools."""

Rows = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bound:
    """Which neighbors to find.

    Attributes:
        k: this many, and any that tie with the last; ignored if there is a distance.
        distance: those up to this distance.
    """

    k: int | None
    distance: float | None

    def candidates(self, differing: npt.NDArray[np.uint16]) -> Rows:
        """Which sketches are near enough; ties are included together."""
        if self.distance is None:
            k = self.k or 0
            wanted = max(
                _CANDIDATES * max(k, 10) ** 0.75 * len(differing) ** 0.5,
                _FEWEST,
                _FEWEST_PER_NEIGHBOR * k,
            )
            reached = np.cumsum(np.bincount(differing, minlength=BITS + 1)) >= wanted
            bound = int(np.argmax(reached)) if reached.any() else BITS
        else:
            bound = _differing_within(self.distance)
        return np.flatnonzero(differing <= min(bound, BITS))

    def reached(self, cosines: npt.NDArray[np.floating], slack: float) -> Rows:
        """Which cosines are large enough, or short by no more than the slack."""
        if self.distance is not None:
            least = 1 - min(max(self.distance, -1), 3)
        elif self.k is None or self.k < 1:
            return np.empty(0, np.int64)
        elif self.k < len(cosines):
            least = float(np.partition(cosines, -self.k)[-self.k])
        else:
            least = -math.inf
        return np.flatnonzero((cosines >= least - slack) & (cosines > -math.inf))


def _differing_within(distance: float) -> int:
    """The most bits in which sketches of vectors this near differ, as hubdelta.differing_within."""
    half_turns = math.acos(min(max(1 - distance - 5e-7, -1), 1)) / math.pi
    spread = math.sqrt(BITS * half_turns * (1 - half_turns))
    return math.floor(3 + BITS * half_turns + 5 * spread)
