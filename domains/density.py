"""Density clustering: HDBSCAN on the minimum spanning tree of cosine distances.

HDBSCAN joins points by mutual reachability, the largest of their distance and of the distances
of both to their k-th neighbor; for k = 1 that is the distance itself, so that a minimum spanning
tree under cosine distance is all of the pool that it needs. (R. J. G. B. Campello, D. Moulavi and
J. Sander, Density-based clustering based on hierarchical density estimates, PAKDD 2013.)

Density is ln(FAR / distance), and the highest at FLOOR. HDBSCAN's own 1 / distance grows without
bound: ten uploads of one adapter would outweigh the hundred different ones of a domain around
them, which would then count as noise.

Measured: the adjusted Rand index to the true domains, noise counting as clusters of one. The demo's
Hub has 28 adapters, of which three are of two domains at once, so of none; the second column leaves
them out. In synthetic pools, 70% are in domains of Zipf's sizes, 20% come in bursts of up to 300
near-duplicates, 10% are noise; the cosine is .7….95 within a domain and .2….6 between two, or, in
the column after, .5….8 and .05….3 (means over 20, 20, 10 and 2 pools that none was chosen on).
"1 / distance" is HDBSCAN as it is, without FAR, and with distances raised to a floor.

|                               | demo |       | 30  |     | 100 |     | 300 |     | 3000 |     |
|-------------------------------|------|-------|-----|-----|-----|-----|-----|-----|------|-----|
| this                          | .90  | 1.00  | .99 | .87 | .97 | .91 | .99 | .93 | .98  | .98 |
| FAR .4                        | .90  | 1.00  | .99 | .77 | .97 | .79 | .98 | .80 | 1.00 | .95 |
| FAR .6                        | .90  | 1.00  | .97 | .90 | .96 | .96 | .98 | .95 | .98  | 1.00|
| FLOOR .05                     | .90  | 1.00  | .98 | .85 | .97 | .87 | .97 | .86 | .98  | .98 |
| FLOOR .2                      | .70  | .71   | .99 | .92 | .98 | .96 | .99 | .95 | .98  | .98 |
| 1 / distance, floor .1        | .90  | 1.00  | .95 | .83 | .95 | .87 | .93 | .87 | 1.00 | .93 |
| 1 / distance, floor .02       | .90  | 1.00  | .76 | .78 | .63 | .61 | .69 | .64 | .67  | .64 |
| 1 / distance, floor 1e-6      | .90  | 1.00  | .74 | .76 | .61 | .61 | .62 | .60 | .52  | .53 |
| connected components at .25   | .95  | 1.00  | .93 | .49 | .91 | .45 | .94 | .44 | .98  | .72 |

Six pools without any domain, their cosines between .1 and .4, have no cluster; with FAR .6 each has
one to three. A smallest cluster of 4 finds .32 in the demo's pool without copies, where a domain
has three adapters, against .81, and changes nothing at 4,000. Leaves of the hierarchy instead of
excess of mass cut domains up: .06 at 4,000, against .98.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import HDBSCAN

FAR = 0.5
"""The cosine distance from which on two adapters have nothing in common: their density is 0."""

FLOOR = 0.1
"""The cosine distance below which no density is higher."""

SMALLEST = 3
"""Adapters of the smallest cluster [adapters]."""

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
    """The clusters of HDBSCAN by excess of mass.

    Args:
        tree: the minimum spanning tree of n vertices.
    """
    n = len(tree.order)
    found = HDBSCAN(min_cluster_size=SMALLEST, min_samples=1, metric="precomputed", copy=False)
    found.fit(_graph(tree))
    of_hub = found.labels_[n]
    labels = np.where(found.labels_ == of_hub, -1, found.labels_ - (found.labels_ > of_hub))[:n]
    return Clustering(labels, np.where(labels < 0, 0.0, found.probabilities_[:n]))


def _graph(tree: SpanningTree) -> csr_array:
    """The tree and a hub, as a sparse matrix of 1 / density [n + SMALLEST, n + SMALLEST].

    The tree falls into pieces where it is FAR or more wide, and each piece is tied to the hub: a
    cluster of points that stands for all that is unrelated, and with which noise stays. So a piece
    can be a cluster as a whole. HDBSCAN by itself never takes all points for one cluster, or, when
    it is told that it may, counts density from an infinite distance on and prefers it to domains.
    """
    n = len(tree.order)
    near = np.flatnonzero(tree.gap < FAR)
    child, parent = tree.order[near], tree.parent[near]
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
