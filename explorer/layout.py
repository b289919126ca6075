"""Laying vectors out in a plane: by t-SNE, or by UMAP for large pools, from a start if given.

L. van der Maaten and G. Hinton, Visualizing data using t-SNE, JMLR 2008; L. McInnes, J. Healy and
J. Melville, UMAP, arXiv 1802.03426. Both preserve the arrangement they start from, so they start
from the plane of the two principal components (D. Kobak and G. Linderman, Nature Biotechnology
2021), or from an earlier map.
"""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from threadpoolctl import threadpool_limits

from hubdelta.schemas.errors import MissingExtraError
from hubdelta.vectors.nearest import Neighbors

logger = logging.getLogger(__name__)

Plane = NDArray[np.float64]
"""Coordinates [n, 2]."""

LEAST_OF_UMAP: Final = 2000
"""With this many vectors or more, t-SNE takes minutes and UMAP is as good."""

_LEAST_OF_TSNE = 6  # with fewer, the plane of the principal components shows everything
_PERPLEXITY = 30.0  # t-SNE's default; a third of a smaller pool
_NEAREST = 15  # UMAP's default number of neighbors
_SEED = 0
_START = 1e-4  # standard deviation of the start, t-SNE's default
_BASIS, _TURNS = 8, 12  # columns and iterations of the search for principal components


def lay_out(
    units: NDArray[np.float32], neighbors: Callable[[], Neighbors], start: Plane | None = None
) -> tuple[Plane, str]:
    """Coordinates that keep near vectors near; deterministic.

    Args:
        units: the vectors, each of length 1 [n, d]; a memory map is read by blocks.
        neighbors: gives at least 15 nearest of each; called for a large pool only.
        start: where to start from; None for the plane of the principal components.

    Returns:
        Coordinates in no particular range, and the method: plane, tsne or umap.

    Raises:
        MissingExtraError: the pool is large, and UMAP is not installed.
    """
    n = len(units)
    if n >= LEAST_OF_UMAP and find_spec("umap") is None:
        raise MissingExtraError(f"a map of {LEAST_OF_UMAP:,} adapters or more", "map")
    if n < _LEAST_OF_TSNE:
        return principal_plane(units), "plane"
    if start is None:
        start = principal_plane(units)
    # Equal vectors that start at one point would stay on top of each other.
    noise = np.random.default_rng(_SEED).normal(size=start.shape)
    start = start + 1e-3 * noise * (start.std() or 1.0)
    # Threads add in arbitrary order, and small differences grow with every step.
    with threadpool_limits(1):
        if n < LEAST_OF_UMAP:
            return _tsne(units, start), "tsne"
        return _umap(neighbors(), start), "umap"


def _tsne(units: NDArray[np.float32], start: Plane) -> Plane:
    from sklearn.manifold import TSNE

    logger.info("laying out %d adapters by t-SNE", len(units))
    squares = 2 - 2 * (units @ units.T)
    np.fill_diagonal(squares, 0)
    distances = np.sqrt(np.maximum(squares, 0), dtype=np.float32)
    made = TSNE(
        perplexity=min(_PERPLEXITY, (len(units) - 1) / 3),
        metric="precomputed",
        init=(start / start.std() * _START).astype(np.float32),
        random_state=_SEED,
    )
    return np.asarray(made.fit_transform(distances), np.float64)


def _umap(neighbors: Neighbors, start: Plane) -> Plane:
    n = len(start)
    logger.info("laying out %d adapters by UMAP, which compiles itself the first time", n)
    from umap import UMAP

    # UMAP counts a vector as its own first neighbor.
    index = np.hstack([np.arange(n)[:, None], neighbors.index[:, : _NEAREST - 1]])
    distance = np.hstack([np.zeros((n, 1)), neighbors.distance[:, : _NEAREST - 1]])
    made = UMAP(
        n_neighbors=_NEAREST,
        metric="cosine",
        init=start.astype(np.float32),
        precomputed_knn=(index, distance.astype(np.float32)),
        random_state=_SEED,
        n_jobs=1,
    )
    # Given neighbors and a start, it needs only the number of vectors, not their values.
    vectors = np.zeros((n, 1), np.float32)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # unavailable features
        return np.asarray(made.fit_transform(vectors), np.float64)


def principal_plane(units: NDArray[np.float32]) -> Plane:
    """The first two principal components of vectors, by subspace iteration.

    Args:
        units: the vectors [n, d]; a memory map is read as a whole a few times.
    """
    n, d = units.shape
    mean = units.mean(axis=0, dtype=np.float64).astype(np.float32)
    basis = np.random.default_rng(_SEED).standard_normal((d, min(_BASIS, d))).astype(np.float32)
    for _ in range(_TURNS):
        scores = units @ basis - mean @ basis
        basis, _ = np.linalg.qr(units.T @ scores - np.outer(mean, scores.sum(axis=0)))
    scores = (units @ basis - mean @ basis).astype(np.float64)
    left, sizes, _ = np.linalg.svd(scores, full_matrices=False)
    plane = np.zeros((n, 2))
    found = min(2, len(sizes))
    plane[:, :found] = left[:, :found] * sizes[:found]
    # The sign of a component is arbitrary.
    signs = np.sign(plane[np.abs(plane).argmax(axis=0), [0, 1]])
    return plane * np.where(signs == 0, 1, signs)


def aligned(plane: Plane, earlier: Plane, common: NDArray[np.bool_]) -> Plane:
    """A plane rotated, mirrored, scaled and moved to match an earlier one.

    This is orthogonal Procrustes analysis (J. C. Gower, Psychometrika 40, 1975); the scale is the
    ratio of the sizes, since the best fit would shrink what has changed.

    Args:
        plane: the coordinates [n, 2].
        earlier: the coordinates to match [n, 2].
        common: which rows to match [n].
    """
    here, there = plane[common], earlier[common]
    here_at, there_at = here.mean(axis=0), there.mean(axis=0)
    here, there = here - here_at, there - there_at
    size = np.linalg.norm(here)
    if not size or not np.linalg.norm(there):
        return fitted(plane)
    turn, _ = orthogonal_procrustes(here, there)
    turned: Plane = (plane - here_at) @ turn * (np.linalg.norm(there) / size) + there_at
    return turned


def fitted(plane: Plane) -> Plane:
    """A plane moved and scaled to just fit -1 to 1, keeping its proportions."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    half = (high - low).max() / 2
    scaled: Plane = (plane - (low + high) / 2) / (half or 1.0)
    return scaled
