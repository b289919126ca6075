"""The committed adapters show what the paper found, by its own computation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.check import findings, vectors_of


@pytest.fixture(scope="module")
def figures(published: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return findings(published)


def test_vectors_are_those_of_the_published_computation(
    demo_base: Path, published: Mapping[str, np.ndarray]
) -> None:
    some = sorted(published)[::18]
    found = vectors_of(demo_base, COMMITTED, some)
    assert list(found) == some
    for name, vector in found.items():
        np.testing.assert_allclose(vector, published[name], rtol=0, atol=1e-4, err_msg=name)


def test_domains_are_clusters(figures: dict[str, Any]) -> None:
    assert figures["silhouette"] >= 0.6


def test_default_distance_of_domains_tells_the_five_apart(figures: dict[str, Any]) -> None:
    low, high = figures["separating_distances"]
    assert low < 0.25 < high


def test_mixed_adapters_are_closest_to_the_sum(figures: dict[str, Any]) -> None:
    assert len(figures["mixed"]) == 3
    for mix in figures["mixed"].values():
        assert mix["sum_of_parts"] > max(mix["parts"]) + 0.02
        assert mix["sum_of_means"] > max(mix["means"]) + 0.02
