"""Vectors with the geometry of real deltas: domains around a common direction, copies, noise."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DIMENSIONS = 512


def unit(vectors: Array) -> Array:
    """Each vector at length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Family:
    """All that is finetuned from one base; two of its domains are at a cosine of about .3.

    Args:
        seed: of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.common = unit(self.random.normal(size=DIMENSIONS))

    def directions(self, count: int) -> Array:
        """Centers of domains, or adapters that are in none [count, d]."""
        own = unit(self.random.normal(size=(count, DIMENSIONS)))
        return unit(0.55 * self.common + 0.83 * own).astype(np.float32)

    def around(self, center: Array, count: int, cosine: float = 0.8) -> Array:
        """Members of a domain, two of which are about at that cosine [count, d]."""
        own = unit(self.random.normal(size=(count, DIMENSIONS)))
        spread = self.random.uniform(0.7, 1.3, size=(count, 1))
        away = np.sqrt(spread * (1 - cosine))
        return unit(np.sqrt(cosine) * center + away * own).astype(np.float32)

    def copies(self, vector: Array, count: int) -> Array:
        """The same once more, but for rounding [count, d]."""
        noise = unit(self.random.normal(size=(count, DIMENSIONS)))
        return unit(vector + 1e-3 * noise).astype(np.float32)
