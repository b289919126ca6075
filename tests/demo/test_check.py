"""The committed adapters show what the paper found, by its own computation."""

from pathlib import Path
from typing import Any

import pytest

from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.check import measure


@pytest.fixture(scope="module")
def figures(demo_base: Path) -> dict[str, Any]:
    return measure(demo_base, COMMITTED)


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
