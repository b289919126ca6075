"""Positions on the map: known adapters stay, new ones join their neighbors, or all move."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hubdelta.explorer.layout import Plane, aligned, fitted, lay_out
from hubdelta.explorer.pool import MapPool
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import new_run_id
from hubdelta.schemas.rows import MapRow
from hubdelta.vectors.nearest import nearest, nearest_among

LATER: Final = "neighbors"
"""The method of adapters that were added to an existing map."""

SHARE_OF_NEW: Final = 0.2
"""When more than this share was placed later, the map is recomputed."""

_GUIDES = 5  # neighbors that determine where a new one goes
_KIN = 20  # nearest other new ones considered
_CLOSE = 1e-3  # cosine distance below which neighbors count equally
_SPREAD = 0.004  # largest offset from that place
_DIGITS = 5  # decimals of a coordinate
_GAP = 10.0**-_DIGITS
_TURN = math.pi * (3 - math.sqrt(5))  # the golden angle


@dataclass(frozen=True)
class Placement:
    """The map of a pool.

    Attributes:
        xy: the position of each adapter of the pool: about -1 to 1, five decimals, all distinct
            [n, 2].
        methods: how each was placed: plane, tsne, umap or neighbors [n].
        moved: how many were on the map before, at another position.
        news: the rows to add to the table `maps`.
    """

    xy: Plane
    methods: list[str]
    moved: int
    news: list[MapRow]


def place(pool: MapPool, now: datetime) -> Placement:
    """The map of a pool, based on the index's existing map, if any.

    An adapter keeps its position as long as its vector is of the same commit. New ones are placed
    beside their nearest neighbors. When more than 20% have been placed this way, the map is
    recomputed starting from these positions, and rotated to match the old one.

    Args:
        pool: the adapters.
        now: the time of new rows.

    Raises:
        MissingExtraError: a large pool has to be laid out, and UMAP is not installed.
        QueryError: the vectors cannot be read.
    """
    past = _past(pool)
    stood = _stood(pool, [past.get(name) for name in pool.adapters])
    n = len(pool)
    if n - stood.laid_out.sum() <= SHARE_OF_NEW * n:
        xy = _rounded(_among(pool, stood), fixed=stood.known)
        fresh, methods = ~stood.known, [*stood.methods]
        map_id = next(row.map_id for row in past.values())
    else:
        start = _among(pool, stood) if stood.known.any() else None
        plane, method = lay_out(pool.units, lambda: pool.neighbors, start)
        if start is None:
            plane = fitted(plane)
        else:
            plane = aligned(plane, stood.earlier, stood.known)
            plane /= max(1.0, np.abs(plane).max())
        xy = _rounded(plane, fixed=np.zeros(n, bool))
        fresh, methods = np.ones(n, bool), [method] * n
        map_id = new_run_id(now)
    moved = (xy != stood.earlier).any(axis=1) & stood.seen
    revisions = pool.facts["revision"].to_pylist()
    news = [
        MapRow(
            base=pool.base,
            recipe_id=pool.recipe_id,
            map_id=map_id,
            adapter=pool.adapters[row],
            revision=revisions[row],
            x=xy[row, 0].item(),
            y=xy[row, 1].item(),
            method=methods[row],
            placed_at=now,
        )
        for row in np.flatnonzero(fresh).tolist()
    ]
    return Placement(xy, methods, int(moved.sum()), news)


@dataclass(frozen=True)
class _Stood:
    """The adapters of a pool on an earlier map [n].

    Attributes:
        seen: whether it has the adapter, at any commit.
        earlier: its position; zeros if not seen [n, 2].
        known: whether it has the adapter at the same commit.
        laid_out: known, and placed with the whole map.
        methods: how it was placed, or will be placed if not known.
    """

    seen: NDArray[np.bool_]
    earlier: Plane
    known: NDArray[np.bool_]
    laid_out: NDArray[np.bool_]
    methods: list[str]


def _past(pool: MapPool) -> dict[str, MapRow]:
    """The rows of the newest map of a pool, by adapter."""
    found = pool.queries.run(
        "FROM maps AS m WHERE m.base = ? AND m.recipe_id = ?", [pool.base, pool.recipe_id]
    )
    return {row.adapter: row for row in rows_of(found, MapRow)}


def _stood(pool: MapPool, rows: Sequence[MapRow | None]) -> _Stood:
    revisions = pool.facts["revision"].to_pylist()
    known = [
        row is not None and row.revision == revision
        for row, revision in zip(rows, revisions, strict=True)
    ]
    methods = [
        row.method if row and is_known else LATER for row, is_known in zip(rows, known, strict=True)
    ]
    return _Stood(
        seen=np.array([row is not None for row in rows], bool),
        earlier=np.array([(row.x, row.y) if row else (0.0, 0.0) for row in rows]).reshape(-1, 2),
        known=np.array(known, bool),
        laid_out=np.array(known, bool) & (np.array(methods) != LATER),
        methods=methods,
    )


def _among(pool: MapPool, stood: _Stood) -> Plane:
    """Coordinates of all adapters: known ones stay, new ones go beside their nearest neighbors.

    New ones nearest to a known one are placed first and guide the others, so that groups of new
    adapters stay together.
    """
    xy = stood.earlier.copy()
    known, new = np.flatnonzero(stood.known), np.flatnonzero(~stood.known)
    if not len(new):
        return xy
    units = pool.units[new]
    to_known = nearest_among(units, pool.units, known, _GUIDES)
    to_new = nearest(units, _KIN)
    is_placed = np.zeros(len(new), bool)
    for one in np.lexsort((new, to_known.distance[:, 0])).tolist():
        kin = to_new.index[one]
        usable = (kin >= 0) & is_placed[kin]
        index = np.concatenate([to_known.index[one], new[kin[usable]]])
        distance = np.concatenate([to_known.distance[one], to_new.distance[one][usable]])
        distance[index < 0] = np.inf
        guides = np.argsort(distance, kind="stable")[:_GUIDES]
        guides = guides[np.isfinite(distance[guides])]
        weights = (distance[guides] + _CLOSE) ** -2.0
        center = weights @ xy[index[guides]] / weights.sum()
        xy[new[one]] = center + _beside(pool.adapters[new[one]])
        is_placed[one] = True
    return xy


def _beside(adapter: str) -> NDArray[np.float64]:
    """A small offset derived from the adapter's name."""
    digest = sha256(adapter.encode()).digest()
    angle = int.from_bytes(digest[:4], "big") / 2**32 * 2 * math.pi
    length = _SPREAD * math.sqrt(int.from_bytes(digest[4:8], "big") / 2**32)
    return np.array([length * math.cos(angle), length * math.sin(angle)])


def _rounded(plane: Plane, *, fixed: NDArray[np.bool_]) -> Plane:
    """Coordinates rounded to few decimals, all distinct; fixed ones stay."""
    xy = np.round(plane, _DIGITS) + 0.0  # no negative zeros
    taken = {(x, y) for x, y in xy[fixed].tolist()}
    for row in np.flatnonzero(~fixed).tolist():
        step = 0
        spot = first = (xy[row, 0].item(), xy[row, 1].item())
        while spot in taken:
            step += 1
            away = 5 * _GAP * math.sqrt(step)
            spot = (
                round(first[0] + away * math.cos(step * _TURN), _DIGITS) + 0.0,
                round(first[1] + away * math.sin(step * _TURN), _DIGITS) + 0.0,
            )
        taken.add(spot)
        xy[row] = spot
    return xy
