"""The page's data as one JSON text: format 1."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from hubdelta.explorer.placement import Placement
from hubdelta.explorer.pool import MapPool
from hubdelta.sql.questions.answers import domains
from hubdelta.vectors.nearest import Neighbors

FORMAT: Final = 1

_LEAST = 2  # adapters in the smallest domain


@dataclass(frozen=True)
class Domains:
    """The domains of a pool, largest first, and the domain of each adapter.

    Attributes:
        numbers: of each, as `domains` shows them; numbers of clusters persist.
        names: the name of each.
        sizes: how many adapters each has.
        of: the domain of each adapter of the pool, from 0; None for those in none [n].
    """

    numbers: list[int]
    names: list[str]
    sizes: list[int]
    of: list[int | None]


def domains_of(pool: MapPool, distance: float | None = None) -> Domains:
    """The domains of a pool, as found by `domains`, without those of a single adapter.

    Raises:
        UsageError: the distance is out of range.
    """
    members = set(pool.adapters)
    found = [
        row
        for row in domains(pool.queries, pool.base, distance).to_pylist()
        if row["size"] >= _LEAST and members.issuperset(row["members"])
    ]
    domain_of = {name: number for number, row in enumerate(found) for name in row["members"]}
    return Domains(
        numbers=[row["domain"] for row in found],
        names=[row["name"] for row in found],
        sizes=[row["size"] for row in found],
        of=[domain_of.get(name) for name in pool.adapters],
    )


def payload(
    pool: MapPool,
    placement: Placement,
    domains: Domains,
    *,
    threshold: float,
    hub: str,
    version: str,
    made_at: datetime,
) -> str:
    """The page's data for a pool.

    Args:
        pool: the adapters.
        placement: their positions.
        domains: their domains.
        threshold: the initial maximum cosine distance of neighbors shown.
        hub: address of the Hub that repositories are linked to, without a trailing slash.
        version: of hubdelta.
        made_at: now.

    Returns:
        JSON, without NaN or infinity; those are null. `columns` has a list of n values for each
        column; `neighbors` has int32 rows, -1 where there is none, and float32 cosine distances,
        both [n, k] in little-endian base64.
    """
    columns = {name: _cells(pool.facts[name]) for name in pool.facts.column_names}
    page = {
        "format": FORMAT,
        "base": pool.base,
        "recipe": pool.recipe_id,
        "hub": hub,
        "made_at": made_at.astimezone(UTC).isoformat(timespec="seconds"),
        "version": version,
        "threshold": threshold,
        "domains": [
            {"number": number, "name": name, "size": size}
            for number, name, size in zip(
                domains.numbers, domains.names, domains.sizes, strict=True
            )
        ],
        "columns": columns
        | {
            "x": placement.xy[:, 0].tolist(),
            "y": placement.xy[:, 1].tolist(),
            "domain": domains.of,
        },
        "neighbors": _packed(pool.neighbors),
    }
    return json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _cells(column: pa.ChunkedArray) -> list[Any]:
    cells: list[Any] = column.to_pylist()
    if pa.types.is_floating(column.type):
        return [cell if cell is not None and math.isfinite(cell) else None for cell in cells]
    if pa.types.is_timestamp(column.type):
        return [None if cell is None else cell.astimezone(UTC).isoformat() for cell in cells]
    return cells


def _packed(neighbors: Neighbors) -> Mapping[str, int | str]:
    return {
        "k": neighbors.index.shape[1],
        "index": _base64(neighbors.index.astype("<i4")),
        "distance": _base64(neighbors.distance.astype("<f4")),
    }


def _base64(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")
