"""Scores of a space: how well its distances tell labels apart, with bootstrap intervals."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from hubdelta.schemas.defaults import DISTANCE

Matrix = NDArray[np.float64]

RESAMPLES: Final = 1000
"""Bootstrap resamples of an interval."""

_SEED: Final = 0
_LEVEL: Final = 95  # percent

_EQUAL: Final = 1e-9
"""Cosines this near are equal: those of two copies of a vector differ by rounding."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """How well a space tells labels apart.

    Attributes:
        silhouette: with distance clip(1 - cos, 0, 1), as in the paper's release and its table.
        silhouette_halved: with distance (1 - cos) / 2, as in the paper's submission.
        retrieval: share of adapters whose nearest other adapter has the same label.
        rand_index: adjusted Rand index between the labels and the groups that steps of up to the
            default distance join.
        by_label: mean silhouette (clipped) of the adapters of each label.
    """

    silhouette: Interval
    silhouette_halved: Interval
    retrieval: float
    rand_index: float
    by_label: dict[str, float]


def score(cosines: Matrix, labels: list[str]) -> Scores:
    """Score a space.

    Args:
        cosines: similarity of each pair of adapters [n, n].
        labels: of each adapter [n]; at least two labels, each of at least two adapters.
    """
    places = _numbered(labels)
    each = _silhouettes(np.clip(1 - cosines, 0, 1), places)
    halved = _silhouettes((1 - cosines) / 2, places)
    return Scores(
        silhouette=_with_interval(each),
        silhouette_halved=_with_interval(halved),
        retrieval=retrieval(cosines, places),
        rand_index=rand_index(cosines, places),
        by_label={
            label: float(each[places == place].mean())
            for place, label in enumerate(dict.fromkeys(labels))
        },
    )


def retrieval(cosines: Matrix, labels: NDArray[np.int64]) -> float:
    """Share of adapters whose most similar other adapter has the same label.

    Among several equally similar ones, each counts for its part.
    """
    others = cosines - np.diag(np.full(len(cosines), np.inf))
    nearest = others >= others.max(axis=1, keepdims=True) - _EQUAL
    same = labels[:, np.newaxis] == labels
    return float(((nearest & same).sum(axis=1) / nearest.sum(axis=1)).mean())


def rand_index(cosines: Matrix, labels: NDArray[np.int64], distance: float = DISTANCE) -> float:
    """Adjusted Rand index of the groups that steps of up to a cosine distance join.

    L. Hubert and P. Arabie, Comparing partitions, J. Classification 2, 1985.
    """
    _, groups = connected_components(1 - cosines <= distance, directed=False)
    return float(adjusted_rand_score(labels, groups))


def _silhouettes(distances: Matrix, labels: NDArray[np.int64]) -> Matrix:
    """The silhouette of each adapter: (b - a) / max(a, b).

    a is the mean distance to the others of its label, b the least mean distance to another label
    (P. J. Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20, 1987).
    """
    np.fill_diagonal(distances, 0)
    found: Matrix = silhouette_samples(distances, labels, metric="precomputed")
    return found


def _with_interval(each: Matrix) -> Interval:
    """The mean of the adapters' silhouettes, and the percentiles of that of drawn adapters.

    As many as there are, with replacement; each keeps the silhouette that it has in the whole pool.
    Drawing the pool as well would leave some labels without a pair, and so raise the others.
    """
    drawn = np.random.default_rng(_SEED).integers(len(each), size=(RESAMPLES, len(each)))
    outer = (100 - _LEVEL) / 2
    low, high = np.percentile(each[drawn].mean(axis=1), [outer, 100 - outer])
    return Interval(float(each.mean()), float(low), float(high))


def _numbered(labels: list[str]) -> NDArray[np.int64]:
    numbers = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], np.int64)
