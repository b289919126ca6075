"""Density clustering: HDBSCAN on the minimum spanning tree of cosine distances.

HDBSCAN joins points by mutual reachability, the largest of their distance and the distances of both
to their k-th neighbor; for k = 1 that is the distance itself, so the minimum spanning tree under
cosine distance is all that it needs of the pool. (R. J. G. B. Campello, D. Moulavi and
J. Sander, Density-based clustering based on hierarchical density estimates, PAKDD 2013.)

Density is ln(far / distance), capped at its value at far / 2. HDBSCAN's own 1 / distance grows
without bound: ten uploads of one adapter would outweigh the hundred different adapters of the
domain around them, which would then count as noise.

The distance "far" adapts to the pool, because domains of one base spread wider than another's: it
is the geometric mean of APART and of the steps within domains (`_far`). It decides whether one
domain may cover nearly all of a large pool. With .3 for every pool, the adjusted Rand index of
3,000 synthetic adapters (bench/delta_geometry.py) whose domains spread twice as wide as the demo's
was .55 on the seeds on which the constants were chosen, and is .93 now; with half the demo's
spread, 20,000 had .81 and have .99. Pools of fewer than FEW adapters are linked, at a distance that
adapts to the pool in the same way (`_few_distance`): at 30 adapters, widely spread domains score
.82 this way, .80 by density, and .59 if every pool is linked at .22. Selecting leaves of the
hierarchy instead of excess of mass splits domains.

Copies of one adapter count once: otherwise hundreds of uploads would be a domain by themselves and
leave the rest of their domain without one.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

UNRELATED = 0.3
"""Steps of this cosine distance or more say nothing about how wide a pool's domains spread, unless
the shorter steps say otherwise."""

APART = 0.45
"""The assumed cosine distance between domains; in pools of 30, different domains are joined at .4.
Of .25 to .5, the value that found domains best in pools of 100 to 20,000."""

WITHIN = 0.75
"""The quantile of the steps within domains that represents them. The median is too low in large
pools, where most steps join adapters that are nearly alike."""

SMALLEST = 2
"""Size of the smallest cluster [adapters]."""

FEW = 40
"""A smaller pool says too little about density, so it is linked instead [adapters]."""

FEW_APART = 0.4
"""As APART, for small pools that are linked: the best of .3 to .45 at 8 to 50 adapters."""

COPY = 0.01
"""The cosine distance of steps that join copies, which count as one vertex; as in `duplicates`."""

_NO_DENSITY = 1e-12
"""Used in place of a density of 0, since a weight is 1 / density; the density of any smaller
distance in float32 is four orders of magnitude higher."""


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
    """Which cluster each vertex is in, and how strongly.

    Attributes:
        labels: the clusters, numbered from 0; -1 for noise [n].
        strengths: the density at which each vertex leaves its cluster, over the cluster's highest,
            in 0…1; 0 for noise (scikit-learn's `probabilities_`) [n].
    """

    labels: NDArray[np.int64]
    strengths: NDArray[np.float64]


def cluster(tree: SpanningTree) -> Clustering:
    """The clusters of HDBSCAN by excess of mass or, for fewer than FEW vertices, of linkage.

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
    # Copies that are near nothing else form a cluster by themselves.
    alone = (labels < 0) & (np.bincount(copies) >= SMALLEST)
    labels = np.where(alone, len(found.labels_) + np.arange(vertices), labels)
    strengths = np.where(alone, 1.0, np.where(labels < 0, 0.0, strengths))
    return Clustering(_numbered(labels[copies]), strengths[copies])


def _steps(tree: SpanningTree) -> NDArray[np.float64]:
    """The distances of the tree's edges, ascending, without those that join copies [steps]."""
    gap = np.sort(tree.gap[1:].astype(np.float64))
    return gap[gap > COPY]


def _far(tree: SpanningTree) -> float:
    """The cosine distance at which two adapters of the pool have nothing in common.

    It is √(APART · w), where w is the quantile WITHIN of the steps shorter than it. The search
    begins at UNRELATED. w never falls as the distance grows, so successive distances only fall or
    only rise; they stay below APART, so the search ends.
    """
    steps, far, before = _steps(tree), UNRELATED, 0.0
    while far != before and (steps < far).any():
        before = far
        far = float(np.sqrt(APART * np.quantile(steps[steps < far], WITHIN)))
    return far


def _few_distance(tree: SpanningTree) -> float:
    """The distance up to which the adapters of a small pool are joined: √(FEW_APART · w).

    Here w is the median of the steps shorter than UNRELATED; if none, only copies are joined.
    """
    steps = _steps(tree)
    near = steps[steps < UNRELATED]
    return float(np.sqrt(FEW_APART * np.median(near))) if len(near) else COPY


def _components(tree: SpanningTree, distance: float) -> NDArray[np.int64]:
    """The components joined by steps of up to `distance`, numbered from 0 [n].

    In the order of Prim's algorithm the members of each are contiguous.
    """
    component = np.empty(len(tree.order), np.int64)
    # Distances are compared as SQL shows them, to six decimals.
    wide = np.round(tree.gap.astype(np.float64), 6) > distance
    component[tree.order] = np.cumsum(wide) - 1
    return component


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same clusters renumbered from 0 without gaps; -1 stays."""
    used = np.unique(labels[labels >= 0])
    return np.where(labels < 0, -1, np.searchsorted(used, labels))


def _graph(tree: SpanningTree, vertex: NDArray[np.int64], n: int) -> csr_array:
    """The tree and a hub, as a sparse matrix of 1 / density [n + SMALLEST, n + SMALLEST].

    Args:
        tree: of all adapters.
        vertex: which of the n vertices each adapter is; those of one vertex are joined by steps of
            up to COPY [adapters].
        n: vertices.

    The tree is cut at edges of `_far` or more, and each piece is tied to the hub: a cluster of
    points that represents everything unrelated and absorbs noise. So a whole piece can be a
    cluster. HDBSCAN by itself never returns all points as one cluster or, if allowed to, counts
    density from an infinite distance and prefers that cluster to domains.
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
