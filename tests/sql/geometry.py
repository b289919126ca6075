"""Adapters whose vectors lie in a plane, at known angles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rows import catalog_row, vector_row

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow


def at(degrees: float, length: float = 1.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector of the plane by its angle."""
    angle = math.radians(degrees)
    return np.array([length * math.cos(angle), length * math.sin(angle)], np.float32)


def apart(degrees: float) -> float:
    """The cosine distance of two vectors at that angle."""
    return round(1 - math.cos(math.radians(degrees)), 6)


def adapter(repo_id: str, degrees: float, **changes: Any) -> tuple[CatalogRow, VectorRow]:
    """An embedded adapter: its catalog row and its vector, at an angle of the plane."""
    key = {name: changes[name] for name in ("base", "subfolder", "revision") if name in changes} | {
        "repo_id": repo_id
    }
    vector = {name: changes[name] for name in ("recipe_id", "embedded_at") if name in changes}
    listed = {name: changes[name] for name in changes if name not in vector}
    return (
        catalog_row(**listed | key),
        vector_row(delta=at(degrees), **vector | key),
    )


def write_pairs(index: Index, *adapters: tuple[CatalogRow, VectorRow]) -> Index:
    """Write pairs of catalog row and vector, a file per table and base."""
    for base in {listed.base for listed, _ in adapters}:
        mine = [pair for pair in adapters if pair[0].base == base]
        index.write([listed for listed, _ in mine], base=base)
        index.write([vector for _, vector in mine], base=base)
    return index
