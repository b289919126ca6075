"""Small indexes whose adapters lie in clusters, and how they are put on a map."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from rows import catalog_row, vector_row

from hubdelta.explorer.payload import Domains, domains_of
from hubdelta.explorer.placement import Placement, place
from hubdelta.explorer.pool import MapPool, opened_pool
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import connect

HIDDEN = 16
BASE = "org/base"

Vectors = npt.NDArray[np.float32]


def clustered(n: int, *, clusters: int = 4, seed: int = 0, spread: float = 0.2) -> Vectors:
    """Vectors [n, 16] around so many directions, which the seed does not change, in turns."""
    centers = np.random.default_rng(99).normal(size=(50, HIDDEN))
    noise = np.random.default_rng(seed).normal(size=(n, HIDDEN))
    return (centers[np.arange(n) % clusters] + spread * noise).astype(np.float32)


def add(index: Index, names: Sequence[str], deltas: Vectors, **changes: Any) -> None:
    """Embed adapters; `changes` are for their catalog rows, or for their vectors."""
    of_vectors = {"recipe_id", "embedded_at", "signal", "card", "alpha", "norm"}
    listed = {key: value for key, value in changes.items() if key not in of_vectors}
    key = {name: changes[name] for name in ("base", "revision") if name in changes}
    vector = key | {name: value for name, value in changes.items() if name in of_vectors}
    base = changes.get("base", BASE)
    index.write([catalog_row(repo_id=name, **listed) for name in names], base=base)
    index.write(
        [
            vector_row(repo_id=name, delta=delta, **vector)
            for name, delta in zip(names, deltas, strict=True)
        ],
        base=base,
    )


def names(start: int, stop: int) -> list[str]:
    """The adapters a/start to a/stop, the last not among them."""
    return [f"a/{number:05}" for number in range(start, stop)]


def map_of(index: Index, *, keep: bool = True, now: datetime | None = None) -> dict[str, Any]:
    """Where each adapter stands, and what else there is to know of a map, which is kept."""
    with connect(index) as queries, opened_pool(queries) as pool:
        placement = place(pool, now or datetime.now(UTC))
        placed = dict(zip(pool.adapters, map(tuple, placement.xy.tolist()), strict=True))
    if keep:
        index.write(placement.news, base=pool.base)
    return {"xy": placed, "placement": placement, "adapters": pool.adapters}


def drawn(pool: MapPool) -> tuple[Placement, Domains]:
    """A pool's map and domains."""
    return place(pool, datetime.now(UTC)), domains_of(pool)
