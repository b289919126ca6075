"""How alike the adapters of each cluster are: mean cosines and silhouettes, in linear time.

For unit vectors, the mean cosine of one to a cluster is its product with the cluster's sum, divided
by the cluster's size.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_BLOCK = 1024  # vectors read at once


class Measures(NamedTuple):
    """Measures of each adapter; NaN for noise.

    Attributes:
        likeness: its mean cosine to the others of its cluster [n].
        silhouette: (b - a) / max(a, b), a its mean cosine distance to the others of its cluster
            and b the smallest to another cluster; NaN if there is no other [n].
            (P. J. Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20, 1987.)
    """

    likeness: NDArray[np.float64]
    silhouette: NDArray[np.float64]


def measure(labels: NDArray[np.int64], units: NDArray[np.float32]) -> Measures:
    """Measure clusters of at least two members, in two passes over the vectors.

    Args:
        labels: the cluster of each vector, numbered from 0; -1 for noise [n].
        units: the vectors, each of length 1 [n, d]; a memory map is read by blocks of rows.

    Returns:
        The measures. Cosines to other clusters are computed in float32, off by about 1e-7.
    """
    measures = Measures(np.full(len(labels), np.nan), np.full(len(labels), np.nan))
    sizes = np.bincount(labels[labels >= 0])
    sums = np.zeros((len(sizes), units.shape[1]))
    for _, own, block in _clustered(labels, units):
        present, place = np.unique(own, return_inverse=True)
        ones = np.ones(len(own))
        sums[present] += csr_array((ones, (place, np.arange(len(own))))) @ block

    means = (sums / sizes[:, np.newaxis]).astype(np.float32)
    for rows, own, block in _clustered(labels, units):
        exact = block.astype(np.float64)
        total = np.einsum("ij,ij->i", exact, sums[own] - exact)
        likeness = measures.likeness[rows] = total / (sizes[own] - 1)
        if len(sizes) > 1:
            others = block @ means.T
            others[np.arange(len(own)), own] = -np.inf
            inside, outside = 1 - likeness, 1 - others.max(axis=1)
            measures.silhouette[rows] = (outside - inside) / np.maximum(outside, inside)
    return measures


def _clustered(
    labels: NDArray[np.int64], units: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """The vectors that are not noise, in blocks: their rows, clusters and coordinates."""
    clustered = np.flatnonzero(labels >= 0)
    for start in range(0, len(clustered), _BLOCK):
        rows = clustered[start : start + _BLOCK]
        yield rows, labels[rows], np.asarray(units[rows])
