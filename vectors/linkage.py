"""Single linkage under cosine distance: the minimum spanning tree of all vectors, kept up to date.

The tree is stored in the order in which Prim's algorithm visits it, from which all of single
linkage can be read without the tree:

- the components at a distance are the runs of `order` between gaps larger than the distance;
- the bottleneck of two vertices, the smallest distance at which they share a component,
  is the largest gap after the first of the two, up to and including the second;
- the distance of a vertex to its nearest neighbor is the least weight of its edges in the tree.

(J. C. Gower and G. J. S. Ross, Minimum spanning trees and single linkage cluster analysis, Applied
Statistics 18, 1969.)

Vertices join the tree in blocks. The longest edge of a cycle can be left out, so the only candidate
edges (v, u) from a new vertex v to the tree are those shorter than the bottleneck of u and v's
nearest vertex in the tree; among the vertices of one block, they are the edges of the block's own
minimum spanning tree. Kruskal's algorithm chooses among the candidates.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from hubdelta.schemas.errors import UsageError

_BLOCK = 1024  # vertices that join the tree at once, at most
_DISTANCES = 2**26  # distances held at once: 256 MiB; a block has fewer vertices where n is large
_COLUMNS = 4096  # vectors that one matrix product reads: 64 MiB at 4096 dimensions
_CANDIDATES = 2**20  # candidate edges held before the tree is rebuilt: about 100 MiB in use
_TINY = 1e-30  # used in place of a distance of 0, which a sparse graph would read as no edge


@dataclass(frozen=True)
class Linkage:
    """A minimum spanning tree of n vectors under cosine distance, in Prim's order.

    Attributes:
        order: the vertices (rows of the vectors), as Prim's algorithm visits them from the first
            row [n].
        gap: the cosine distance, 1 - cos, by which each vertex of `order` was attached; infinite
            for the first, else in 0…2 [n].
        parent: the vertex of the tree to which each was attached; -1 for the first [n].
    """

    order: NDArray[np.int64]
    gap: NDArray[np.float32]
    parent: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Self:
        """The tree of no vectors."""
        return cls(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))


def link(units: NDArray[np.float32]) -> Linkage:
    """The single linkage of all vectors, in n²/2 distances.

    Args:
        units: the vectors, each of length 1 [n, d]; a memory map is read by blocks of rows.

    Returns:
        The minimum spanning tree of all rows; among equal distances, any such tree.

    Raises:
        UsageError: a vector does not have length 1, or is not finite.
    """
    return _extended(Linkage.empty(), np.arange(len(units)), units)


def relink(old: Linkage, kept: NDArray[np.int64], units: NDArray[np.float32]) -> Linkage:
    """The single linkage of all vectors, updated from that of mostly the same vectors.

    Vertices that leave cut the old tree into pieces. The largest piece stays; the vectors of the
    others join it together with the new ones, each at the cost of its distance to all vectors.

    Args:
        old: the linkage of the earlier vectors [m].
        kept: the row of each earlier vector in `units`, or -1 if it is gone; a changed vector
            counts as gone, and its row as new [m].
        units: the vectors, each of length 1 [n, d]; a memory map is read by blocks of rows.

    Returns:
        The minimum spanning tree of all rows, as `link` makes it.

    Raises:
        UsageError: a joining vector does not have length 1, or is not finite.
    """
    tree = _largest_piece(old, kept)
    joining = np.setdiff1d(np.arange(len(units)), tree.order)
    if len(joining) > len(units) // 2:
        return link(units)
    return _extended(tree, joining, units)


def _extended(tree: Linkage, joining: NDArray[np.int64], units: NDArray[np.float32]) -> Linkage:
    """The tree with the vertices `joining` added."""
    size = min(_BLOCK, max(_DISTANCES // max(len(units), 1), 1))
    for start in range(0, len(joining), size):
        tree = _joined(tree, joining[start : start + size], units)
    return tree


def _joined(tree: Linkage, block: NDArray[np.int64], units: NDArray[np.float32]) -> Linkage:
    """The tree with the vertices of one block added."""
    stop = max(tree.order.max(initial=0), block.max()) + 1
    distances = _distances(np.asarray(units), block, stop)
    inside = _dense_tree(distances[:, block], block)
    if not len(tree.order):
        return inside
    distances[:, block] = np.inf  # `inside` has all their edges that the tree can need

    trees, candidates, held = [tree, inside], list[_Edges](), 0
    for vertex, row in zip(block, distances, strict=True):
        if held > _CANDIDATES:
            tree = _spanning_tree(trees, candidates)
            trees, candidates, held = [tree], [], 0
        near = row[tree.order]
        short = np.flatnonzero(near < _bottlenecks(tree.gap, near.argmin()))
        candidates.append(_Edges(np.full(len(short), vertex), tree.order[short], near[short]))
        held += len(short)
    return _spanning_tree(trees, candidates)


@dataclass(frozen=True)
class _Edges:
    """Edges between vertices, each with its distance [edges]."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    distance: NDArray[np.float32]

    @classmethod
    def of(cls, tree: Linkage) -> Self:
        return cls(tree.order[1:], tree.parent[1:], tree.gap[1:])

    @classmethod
    def all(cls, parts: Iterable["_Edges"]) -> Self:
        columns = zip(*((p.source, p.target, p.distance) for p in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def graph(self, vertices: int) -> csr_array:
        """The sparse matrix of the distances; edges must be distinct."""
        weights = np.maximum(self.distance, _TINY, dtype=np.float64)
        return coo_array((weights, (self.source, self.target)), (vertices, vertices)).tocsr()


def _distances(
    units: NDArray[np.float32], rows: NDArray[np.int64], stop: int
) -> NDArray[np.float32]:
    """The cosine distances of some rows to the first `stop` rows [rows, stop]."""
    block = units[rows]
    if not np.allclose(np.linalg.norm(block, axis=1), 1.0, atol=1e-3):
        raise UsageError("single linkage needs vectors of length 1")
    distances = np.empty((len(rows), stop), np.float32)
    for start in range(0, stop, _COLUMNS):
        columns = slice(start, min(start + _COLUMNS, stop))
        np.matmul(block, units[columns].T, out=distances[:, columns])
    np.subtract(1.0, distances, out=distances)
    return np.maximum(distances, 0.0, out=distances)  # rounding goes below 0 for equal vectors


def _dense_tree(distances: NDArray[np.float32], vertices: NDArray[np.int64]) -> Linkage:
    """Prim's algorithm on the full matrix of distances of n vertices, which it overwrites."""
    n = len(distances)
    order, parent = np.zeros(n, np.int64), np.full(n, -1)
    gap = np.full(n, np.inf, np.float32)
    reach, nearest = np.full(n, np.inf, np.float32), np.zeros(n, np.int64)
    distances[:, 0] = np.inf
    for step in range(1, n):
        last = order[step - 1]
        closer = distances[last] < reach
        reach[closer] = distances[last, closer]
        nearest[closer] = last
        vertex = reach.argmin()
        order[step], gap[step], parent[step] = vertex, reach[vertex], vertices[nearest[vertex]]
        distances[:, vertex] = reach[vertex] = np.inf
    return Linkage(vertices[order], gap, parent)


def _bottlenecks(gap: NDArray[np.float32], position: np.intp) -> NDArray[np.float32]:
    """The bottleneck between the vertex at one position of a tree and each other vertex [n].

    Infinite for the position itself: no path in the tree can replace an edge to that vertex.
    """
    largest = np.empty_like(gap)
    largest[position] = np.inf
    np.maximum.accumulate(gap[position + 1 :], out=largest[position + 1 :])
    np.maximum.accumulate(gap[1 : position + 1][::-1], out=largest[:position][::-1])
    return largest


def _spanning_tree(trees: Iterable[Linkage], candidates: Iterable[_Edges]) -> Linkage:
    """The minimum spanning tree of the edges of some trees and some candidates, all distinct."""
    edges = _Edges.all([*map(_Edges.of, trees), *candidates])
    root = min(edges.source.min(), edges.target.min())
    graph = edges.graph(vertices=max(edges.source.max(), edges.target.max()) + 1)
    return _prim_order(minimum_spanning_tree(graph), int(root))


def _prim_order(forest: csr_array, root: int) -> Linkage:
    """The tree of a forest that contains `root`, in Prim's order; the forest has each edge once."""
    both = forest + forest.T
    first, others, weights = both.indptr.tolist(), both.indices.tolist(), both.data.tolist()
    order, gap, parent = [], [], []
    frontier = [(np.inf, root, -1)]
    while frontier:
        weight, vertex, origin = heappop(frontier)
        order.append(vertex)
        gap.append(weight)
        parent.append(origin)
        for edge in range(first[vertex], first[vertex + 1]):
            if others[edge] != origin:
                heappush(frontier, (weights[edge], others[edge], vertex))
    distance = np.array(gap, np.float32)
    distance[distance <= np.float32(_TINY)] = 0.0
    return Linkage(np.array(order, np.int64), distance, np.array(parent, np.int64))


def _largest_piece(old: Linkage, kept: NDArray[np.int64]) -> Linkage:
    """The largest connected piece of a tree once restricted to the kept vertices, by new row.

    Any connected piece of a minimum spanning tree is a minimum spanning tree of its vertices.
    """
    rows = kept[kept >= 0]
    if not len(rows):
        return Linkage.empty()
    source, target = kept[old.order[1:]], kept[old.parent[1:]]
    whole = (source >= 0) & (target >= 0)
    edges = _Edges(source[whole], target[whole], old.gap[1:][whole])
    graph = edges.graph(vertices=int(rows.max()) + 1)
    _, pieces = connected_components(graph, directed=False)
    largest = pieces == np.bincount(pieces[rows]).argmax()
    return _prim_order(graph, root=int(rows[largest[rows]].min()))
