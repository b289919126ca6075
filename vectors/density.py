"""Density clustering: HDBSCAN on the minimum spanning tree of cosine distances.

HDBSCAN joins points by mutual reachability, the largest of their distance and of the distances
of both to their k-th neighbor; for k = 1 that is the distance itself, so that a minimum spanning
tree under cosine distance is all of the pool that it needs. (R. J. G. B. Campello, D. Moulavi and
J. Sander, Density-based clustering based on hierarchical density estimates, PAKDD 2013.)

Density is ln(far / distance), and the highest at far / 2. HDBSCAN's own 1 / distance grows without
bound: ten uploads of one adapter would outweigh the hundred different ones of a domain around
them, which would then count as noise.

How far is far follows the pool, because domains of one base spread wider than those of another: it
is the geometric mean of APART and of the steps within domains (`_far`). It decides whether one
domain may be nearly all of a large pool. Where it was .3 for every pool, the adjusted Rand index of
3,000 synthetic adapters (bench/delta_geometry.py) whose domains spread twice as wide as the demo's
was .55 on the seeds on which the constants were chosen, and is .93 now; with half the demo's
spread, 20,000 had .81 and have .99. Pools of fewer than FEW adapters are linked, at a distance that
follows the pool likewise (`_few_distance`): at 30, domains that spread wide have .82 then, .80 by
density, and .59 if every pool is linked at .22. Leaves of the hierarchy instead of excess of mass
cut domains up.

Copies of one adapter count once: hundreds of uploads would otherwise be a domain by themselves, and
leave the rest of theirs without one.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

UNRELATED = 0.3
"""The cosine distance from which on a step tells nothing of how wide a pool's domains spread,
unless the shorter steps say otherwise."""

APART = 0.45
"""Stands for the cosine distance between domains; in pools of 30, different ones are joined at .4.
Of .25 to .5, the value at which domains were found best in pools of 100 to 20,000."""

WITHIN = 0.75
"""The share of steps within domains that are shorter than the one that stands for all. Half is too
few in large pools, where most steps join adapters that are nearly alike."""

SMALLEST = 2
"""Adapters of the smallest cluster [adapters]."""

FEW = 40
"""A pool of fewer adapters tells too little of density: it is linked [adapters]."""

FEW_APART = 0.4
"""The same as APART where few adapters are linked: the best of .3 to .45 at 8 to 50 adapters."""

COPY = 0.01
"""The cosine distance of steps that join copies, which count as one vertex; as in `duplicates`."""

_NO_DENSITY = 1e-12
"""Stands for a density of 0, since a weight is 1 / density; that of any nearer distance in float32
is higher by four orders."""


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
        labels = _components(tree, _few_distance(tree))
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


def _steps(tree: SpanningTree) -> NDArray[np.float64]:
    """The distances of the tree's edges in rising order, without those that join copies [steps]."""
    gap = np.sort(tree.gap[1:].astype(np.float64))
    return gap[gap > COPY]


def _far(tree: SpanningTree) -> float:
    """The cosine distance from which on two adapters of the pool have nothing in common.

    It is √(APART · w), w being the quantile WITHIN of the steps shorter than it. The search for it
    begins at UNRELATED. A longer distance has no lower w, so that the distances found in turn only
    fall or only rise; they stay below APART, and end.
    """
    steps, far, before = _steps(tree), UNRELATED, 0.0
    while far != before and (steps < far).any():
        before = far
        far = float(np.sqrt(APART * np.quantile(steps[steps < far], WITHIN)))
    return far


def _few_distance(tree: SpanningTree) -> float:
    """The distance of steps that join the adapters of a small pool: √(FEW_APART · w).

    Here w is the median of the steps shorter than UNRELATED; without any, copies alone are joined.
    """
    steps = _steps(tree)
    near = steps[steps < UNRELATED]
    return float(np.sqrt(FEW_APART * np.median(near))) if len(near) else COPY


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

    The tree falls into pieces where it is `_far` or more wide, and each piece is tied to the hub: a
    cluster of points that stands for all that is unrelated, and with which noise stays. So a piece
    can be a cluster as a whole. HDBSCAN by itself never takes all points for one cluster, or, when
    it is told that it may, counts density from an infinite distance on and prefers it to domains.
    """
    far = _far(tree)
    near = np.flatnonzero(tree.gap < far)
    near = near[vertex[tree.order[near]] != vertex[tree.parent[near]]]
    child, parent = vertex[tree.order[near]], vertex[tree.parent[near]]
    density = np.log(far / np.maximum(tree.gap[near].astype(np.float64), far / 2))
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
