"""Density clustering: HDBSCAN on the minimum spanning tree of cosine distances.

HDBSCAN joins points by mutual reachability, the largest of their distance and of the distances
of both to their k-th neighbor; for k = 1 that is the distance itself, so that a minimum spanning
tree under cosine distance is all of the pool that it needs. (R. J. G. B. Campello, D. Moulavi and
J. Sander, Density-based clustering based on hierarchical density estimates, PAKDD 2013.)

Density is ln(FAR / distance), and the highest at FLOOR. HDBSCAN's own 1 / distance grows without
bound: ten uploads of one adapter would outweigh the hundred different ones of a domain around
them, which would then count as noise.

FAR decides whether one domain may be nearly all of a large pool: a pool grows together, and from .4
on the whole of 3,000 synthetic adapters with the geometry of real deltas (bench/delta_geometry.py)
had more excess of mass than its domains in some draws (adjusted Rand index 0). Clusters of two
matter to pools of hundreds: at 300, .98 with them and .97 without. Pools of fewer than FEW adapters
have too little density for either: at 30, .93, where steps of up to FEW_DISTANCE give .95; the
other way round at 100, .95 and .91. These are the seeds on which the constants were chosen; on
others, in bench/PERFORMANCE.md, it is .92 at 30. FLOOR .05 cuts domains that spread more than the
demo's into their groups (.28 at 300, against .88). Leaves of the hierarchy instead of excess of
mass cut domains up too.

Copies of one adapter count once: hundreds of uploads would otherwise be a domain by themselves, and
leave the rest of theirs without one.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

FAR = 0.3
"""The cosine distance from which on two adapters have nothing in common: their density is 0."""

FLOOR = 0.1
"""The cosine distance below which no density is higher."""

SMALLEST = 2
"""Adapters of the smallest cluster [adapters]."""

FEW = 40
"""A pool of fewer adapters tells too little of density: it is linked at FEW_DISTANCE [adapters]."""

FEW_DISTANCE = 0.22
"""The cosine distance of steps that join the adapters of a small pool."""

COPY = 0.01
"""The cosine distance of steps that join copies, which count as one vertex; as in `duplicates`."""

_NO_DENSITY = 1e-12
"""Stands for a density of 0, since a weight is 1 / density; that of any distance below FAR in
float32 is higher by four orders."""


class SpanningTree(Protocol):
    """The minimum spanning tree of n unit vectors under cosine distance, as Prim visits it."""

    @property
    def order(self) -> NDArray[np.int64]:
        """The vertices in the order in which they were attached [n]."""

    @property
    def gap(self) -> NDArray[np.float32]:
        """The cosine distance, 1 - cos, by which each of `order` was attached [n]; first inf."""

    @property
    def parent(self) -> NDArray[np.int64]:
        """The vertex to which each of `order` was attached [n]; first -1."""


class Clustering(NamedTuple):
    """Which cluster each vertex is in, and how firmly.

    Attributes:
        labels: the clusters, numbered from 0; -1 for noise [n].
        strengths: the density at which each vertex leaves its cluster, over the cluster's highest,
            in 0…1; 0 for noise (scikit-learn's `probabilities_`) [n].
    """

    labels: NDArray[np.int64]
    strengths: NDArray[np.float64]


def cluster(tree: SpanningTree) -> Clustering:
    """The clusters of HDBSCAN by excess of mass or, of fewer than FEW vertices, of linkage.

    Args:
        tree: the minimum spanning tree of n vertices.
    """
    if len(tree.order) < FEW:
        labels = _components(tree, FEW_DISTANCE)
        labels = np.where(np.bincount(labels, minlength=1)[labels] < SMALLEST, -1, labels)
        return Clustering(_numbered(labels), (labels >= 0).astype(np.float64))
    copies = _components(tree, COPY)
    vertices = int(copies.max()) + 1
    found = HDBSCAN(min_cluster_size=SMALLEST, min_samples=1, metric="precomputed", copy=False)
    found.fit(_graph(tree, copies, vertices))
    labels, strengths = found.labels_[:vertices], found.probabilities_[:vertices]
    labels = np.where(labels == found.labels_[vertices], -1, labels)
    # Copies that are near nothing else are a cluster by themselves.
    alone = (labels < 0) & (np.bincount(copies) >= SMALLEST)
    labels = np.where(alone, len(found.labels_) + np.arange(vertices), labels)
    strengths = np.where(alone, 1.0, np.where(labels < 0, 0.0, strengths))
    return Clustering(_numbered(labels[copies]), strengths[copies])


def _components(tree: SpanningTree, distance: float) -> NDArray[np.int64]:
    """The components that steps of up to a distance join, numbered from 0 [n].

    In the order of Prim's algorithm the members of each follow one another.
    """
    component = np.empty(len(tree.order), np.int64)
    # Distances are compared as SQL shows them, to six decimals.
    wide = np.round(tree.gap.astype(np.float64), 6) > distance
    component[tree.order] = np.cumsum(wide) - 1
    return component


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters with numbers from 0 on, without gaps; -1 stays."""
    used = np.unique(labels[labels >= 0])
    return np.where(labels < 0, -1, np.searchsorted(used, labels))


def _graph(tree: SpanningTree, vertex: NDArray[np.int64], n: int) -> csr_array:
    """The tree and a hub, as a sparse matrix of 1 / density [n + SMALLEST, n + SMALLEST].

    Args:
        tree: of all adapters.
        vertex: which of the n vertices each adapter is; those of one vertex are joined by steps of
            up to COPY [adapters].
        n: vertices.

    The tree falls into pieces where it is FAR or more wide, and each piece is tied to the hub: a
    cluster of points that stands for all that is unrelated, and with which noise stays. So a piece
    can be a cluster as a whole. HDBSCAN by itself never takes all points for one cluster, or, when
    it is told that it may, counts density from an infinite distance on and prefers it to domains.
    """
    near = np.flatnonzero(tree.gap < FAR)
    near = near[vertex[tree.order[near]] != vertex[tree.parent[near]]]
    child, parent = vertex[tree.order[near]], vertex[tree.parent[near]]
    density = np.log(FAR / np.maximum(tree.gap[near].astype(np.float64), FLOOR))
    _, piece = connected_components(coo_array((density, (child, parent)), (n, n)), directed=False)
    _, first = np.unique(piece, return_index=True)

    hub = np.arange(n, n + SMALLEST)
    source = np.concatenate([child, first, hub[1:]])
    target = np.concatenate([parent, np.full(len(first), hub[0]), hub[:-1]])
    ties = np.full(len(first), _NO_DENSITY)
    weight = 1 / np.concatenate([density, ties, np.ones(SMALLEST - 1)])
    size = n + SMALLEST
    graph = coo_array((weight, (source, target)), (size, size)).tocsr()
    return graph + graph.T
