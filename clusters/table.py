"""Updating the table `clusters`: a row for each cluster of a base that changed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hubdelta.clusters.identity import Found, number
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import ClusterRow
from hubdelta.vectors.density import SpanningTree, cluster
from hubdelta.vectors.measures import measure

_STRENGTH_DIGITS = 2
_LIKENESS_DIGITS = 4
_TIE_DIGITS = 9
"""Decimals kept, so that rounding differences do not count as changes: of strengths, of cohesion
and silhouette, and of the likenesses that determine the medoid."""


@dataclass(frozen=True)
class ClusterPool:
    """The adapters of one base that are comparable: those with a vector of one recipe.

    Attributes:
        recipe_id: the recipe.
        adapters: their names, org/name[/subfolder], unique [n].
        tree: the minimum spanning tree of their vectors, whose vertices are their places.
        units: the vectors, each of length 1 [n, d]; a memory map is read by blocks of rows.
    """

    recipe_id: str
    adapters: Sequence[str]
    tree: SpanningTree
    units: NDArray[np.float32]


def update_clusters(
    index: Index, base: str, pools: Sequence[ClusterPool], *, run_id: str, now: datetime
) -> list[ClusterRow]:
    """Cluster the adapters of a base again and write what has changed.

    Args:
        index: where the clusters are stored, held for writing.
        base: the base.
        pools: all its pools, one for each recipe; clusters of the others dissolve.
        run_id: the run.
        now: the time of the new rows.

    Returns:
        The rows written, by number; none if nothing changed.

    Raises:
        IndexWriteError: no space, no permission.
    """
    past = sorted(
        rows_of(index.read(ClusterRow, base=base), ClusterRow), key=lambda row: row.clustered_at
    )
    newest = {row.cluster: row for row in past}
    nameless = [row for pool in pools for row in _rows(base, pool, run_id, now)]
    numbers = number(
        [Found(row.recipe_id, frozenset(row.members), row.medoid or "") for row in nameless],
        past,
        frozenset(name for pool in pools for name in pool.adapters),
    )
    rows = {n: replace(row, cluster=n) for n, row in zip(numbers, nameless, strict=True)}
    rows |= {n: _dissolved(row, run_id, now) for n, row in newest.items() if n not in rows}
    changed = [rows[n] for n in sorted(rows) if n not in newest or _differ(rows[n], newest[n])]
    index.write(changed, base=base)
    return changed


def _rows(base: str, pool: ClusterPool, run_id: str, now: datetime) -> Iterator[ClusterRow]:
    """The clusters of a pool as rows, with number 0 until it is determined."""
    labels, strengths = cluster(pool.tree)
    measures = measure(labels, pool.units)
    strengths = np.round(strengths, _STRENGTH_DIGITS).astype(np.float32)
    names = np.asarray(pool.adapters, dtype=np.str_)
    strongest = np.lexsort((names, -strengths, labels))
    starts = np.searchsorted(labels[strongest], np.arange(labels.max(initial=-1) + 2))
    for start, stop in pairwise(starts):
        members = strongest[start:stop]
        likeness = measures.likeness[members]
        medoid = members[np.round(likeness, _TIE_DIGITS).argmax()]
        silhouette = round(measures.silhouette[members].mean().item(), _LIKENESS_DIGITS)
        yield ClusterRow(
            base=base,
            recipe_id=pool.recipe_id,
            cluster=0,
            members=names[members].tolist(),
            strengths=strengths[members].tolist(),
            medoid=names[medoid].item(),
            cohesion=round(likeness.mean().item(), _LIKENESS_DIGITS),
            silhouette=None if math.isnan(silhouette) else silhouette,
            clustered_at=now,
            run_id=run_id,
        )


def _dissolved(row: ClusterRow, run_id: str, now: datetime) -> ClusterRow:
    return replace(
        row,
        members=[],
        strengths=[],
        medoid=None,
        cohesion=None,
        silhouette=None,
        clustered_at=now,
        run_id=run_id,
    )


def _differ(row: ClusterRow, other: ClusterRow) -> bool:
    return replace(row, clustered_at=other.clustered_at, run_id=other.run_id) != other
