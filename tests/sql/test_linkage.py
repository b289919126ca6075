"""Single linkage: the tree against scipy's on full distance matrices, and what it costs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import cophenet, fcluster, single
from scipy.spatial.distance import squareform

from hubdelta.schemas.errors import UsageError
from hubdelta.vectors import linkage
from hubdelta.vectors.linkage import Linkage, link, relink

Matrix = NDArray[np.float32]
ROUNDING = 2e-6  # of a cosine distance that comes from products in float32


def unit(rows: Any) -> Matrix:
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int, d: int, seed: int) -> Matrix:
    """Clusters with members that are more and less typical, and a fifth of exact duplicates."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(1 + n // 20, d))
    spread = rng.uniform(0.05, 1.0, size=(n, 1))
    units = unit(centers[rng.integers(len(centers), size=n)] + spread * rng.normal(size=(n, d)))
    units[rng.integers(n, size=n // 5)] = units[rng.integers(n, size=n // 5)]
    return units


def spokes_then_hubs(n: int, d: int) -> Matrix:
    """First vectors far from each other, then as many that are closer to all of them."""
    rng = np.random.default_rng(0)
    common = np.eye(d)[0]
    noise = unit(rng.normal(size=(n, d)))
    return unit(np.where(np.arange(n)[:, None] < n // 2, 0.5 * common, 5.0 * common) + noise)


def distances(units: Matrix) -> NDArray[np.float64]:
    exact = units.astype(np.float64)
    full = np.maximum(1.0 - exact @ exact.T, 0.0)
    np.fill_diagonal(full, 0.0)
    return (full + full.T) / 2


def components(tree: Linkage, distance: float) -> list[frozenset[int]]:
    """The runs of the order between gaps larger than the distance, by their first members."""
    starts = np.flatnonzero(tree.gap > distance)[1:]
    return sorted((frozenset(run.tolist()) for run in np.split(tree.order, starts)), key=min)


def assert_is_single_linkage_of(tree: Linkage, units: Matrix) -> None:
    n, full = len(units), distances(units)
    assert (tree.order.dtype, tree.gap.dtype, tree.parent.dtype) == (np.int64, np.float32, np.int64)
    assert sorted(tree.order) == list(range(n))
    assert len(tree.gap) == len(tree.parent) == n
    if n == 0:
        return
    assert (tree.order[0], tree.gap[0], tree.parent[0]) == (0, np.inf, -1)
    position = np.argsort(tree.order)
    assert (position[tree.parent[1:]] < np.arange(1, n)).all()
    assert (tree.gap >= 0).all()
    assert tree.gap[1:] == pytest.approx(full[tree.order[1:], tree.parent[1:]], abs=ROUNDING)
    if n == 1:
        return
    merges = single(squareform(full, checks=False))
    assert np.sort(tree.gap[1:]) == pytest.approx(merges[:, 2], abs=ROUNDING)

    bottlenecks = np.zeros((n, n))
    for start in range(n):
        bottlenecks[start, start + 1 :] = np.maximum.accumulate(tree.gap[start + 1 :])
    bottlenecks = (bottlenecks + bottlenecks.T)[np.ix_(position, position)]
    assert bottlenecks == pytest.approx(squareform(cophenet(merges)), abs=ROUNDING)

    least = np.full(n, np.inf)
    np.minimum.at(least, tree.order[1:], tree.gap[1:])
    np.minimum.at(least, tree.parent[1:], tree.gap[1:])
    np.fill_diagonal(full, np.inf)
    assert least == pytest.approx(full.min(axis=1), abs=ROUNDING)


@pytest.fixture(params=[(1, 7, 0), (16, 5, 0), (33, 64, 100), (2048, 4096, 2**20)], ids=str)
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one vertex at a time, and a tree made anew for each, to the sizes of real work."""
    for name, size in zip(("_BLOCK", "_COLUMNS", "_CANDIDATES"), request.param, strict=True):
        monkeypatch.setattr(linkage, name, size)


@pytest.mark.slow
@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(("n", "d"), [(0, 3), (1, 3), (2, 3), (3, 2), (60, 2), (90, 40), (200, 12)])
def test_the_tree_is_the_single_linkage_of_all_vectors(n: int, d: int) -> None:
    for seed in range(2):
        units = clustered(n, d, seed)
        assert_is_single_linkage_of(link(units), units)


@pytest.mark.usefixtures("blocks")
def test_vectors_closer_to_all_others_than_these_are_to_each_other_change_the_whole_tree() -> None:
    units = spokes_then_hubs(120, 30)
    assert_is_single_linkage_of(link(units), units)


def test_components_at_a_distance_are_runs_of_the_order() -> None:
    units = clustered(600, 24, seed=7)
    tree = link(units)
    merges = single(squareform(distances(units), checks=False))
    heights = merges[:, 2]
    clear = np.flatnonzero(np.diff(heights) > 3 * ROUNDING)
    thresholds = (heights[clear] + heights[clear + 1]) / 2
    assert len(thresholds) > 100
    for distance in [*thresholds[::10], 2.0]:
        labels = fcluster(merges, distance, criterion="distance")
        expected = (frozenset(np.flatnonzero(labels == k).tolist()) for k in np.unique(labels))
        assert components(tree, distance) == sorted(expected, key=min)


@pytest.mark.usefixtures("blocks")
def test_equal_vectors_are_one_component_at_distance_zero() -> None:
    units = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)[
        np.random.default_rng(0).permutation(60)
    ]
    tree = link(units)
    assert [len(members) for members in components(tree, 0.0)] == [20, 20, 20]
    assert_is_single_linkage_of(tree, units)


def test_rounding_never_makes_a_distance_negative() -> None:
    tree = link(np.repeat(clustered(1, 4001, seed=1), 300, axis=0))
    assert (tree.gap >= 0).all()
    assert tree.gap[1:].max() < ROUNDING


def test_a_block_has_one_vector_where_even_that_exceeds_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linkage, "_DISTANCES", 100)
    units = clustered(120, 10, seed=0)
    assert_is_single_linkage_of(link(units), units)


@pytest.mark.parametrize("wrong", [0.0, 2.0, np.nan, np.inf])
def test_a_vector_that_has_not_length_one_is_refused(wrong: float) -> None:
    units = clustered(50, 5, seed=0)
    units[30] *= np.float32(wrong)
    with pytest.raises(UsageError, match="length 1"):
        link(units)


def replaced(units: Matrix, gone: Any, new: Matrix, seed: int) -> tuple[NDArray[np.int64], Matrix]:
    """Without some rows and with others, in a new order: `kept` and the new vectors."""
    rng = np.random.default_rng(seed)
    stay = np.setdiff1d(np.arange(len(units)), gone)
    row = rng.permutation(len(stay) + len(new))
    changed = np.empty((len(row), units.shape[1]), np.float32)
    changed[row] = np.concatenate([units[stay], new])
    kept = np.full(len(units), -1)
    kept[stay] = row[: len(stay)]
    return kept, changed


@pytest.mark.slow
@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize(
    ("removed", "added"), [(0, 0), (0, 9), (1, 1), (15, 0), (15, 60), (80, 70), (100, 9), (100, 0)]
)
def test_relink_gives_the_single_linkage_of_what_is_there_now(removed: int, added: int) -> None:
    for seed in range(2):
        units = clustered(100, 12, seed)
        gone = np.random.default_rng(seed).permutation(100)[:removed]
        kept, changed = replaced(units, gone, clustered(added, 12, seed + 50), seed)
        tree = relink(link(units), kept, changed)
        assert_is_single_linkage_of(tree, changed)
        assert np.sort(tree.gap) == pytest.approx(np.sort(link(changed).gap), abs=ROUNDING)


@pytest.mark.usefixtures("blocks")
def test_relink_without_the_vertex_that_held_all_together() -> None:
    spokes = np.eye(40) + np.eye(40)[0]
    units = unit(np.concatenate([spokes[1:20], np.eye(40)[:1], spokes[20:]]))
    hub = 19
    tree = link(units)
    assert ((tree.order[1:] == hub) | (tree.parent[1:] == hub)).all()
    kept, changed = replaced(units, [hub], clustered(3, 40, seed=0), seed=1)
    assert_is_single_linkage_of(relink(tree, kept, changed), changed)


@pytest.mark.usefixtures("blocks")
def test_relink_without_the_bridge_between_two_clusters() -> None:
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.uniform(0, 40, 50), [50.0], rng.uniform(60, 100, 30)])
    units = unit(np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1))
    kept, changed = replaced(units, [50], unit([[-1.0, 0.2]]), seed=0)
    assert_is_single_linkage_of(relink(link(units), kept, changed), changed)


@pytest.mark.usefixtures("blocks")
def test_relink_from_nothing_is_link() -> None:
    units = clustered(40, 6, seed=0)
    assert_is_single_linkage_of(relink(Linkage.empty(), np.empty(0, np.int64), units), units)


def test_relink_computes_no_distance_between_vectors_that_stay_unless_these_are_the_fewer() -> None:
    angles = np.radians(np.arange(0, 90, 3.0))
    units = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    for gone, anew in ([0], False), (range(14), False), (range(16), True):
        kept, changed = replaced(units, gone, units[list(gone)], seed=0)
        changed[kept[20]] *= 3.0  # refused wherever its distances are computed
        if anew:
            with pytest.raises(UsageError):
                relink(link(units), kept, changed)
        else:
            assert sorted(relink(link(units), kept, changed).order) == list(range(30))


# Few directions, so that most distances are tied or zero.
direction = st.lists(st.integers(-1, 1), min_size=3, max_size=3).filter(any)
night = st.tuples(st.lists(direction, max_size=25), st.randoms(use_true_random=False))


@settings(deadline=None)
@given(st.lists(direction, min_size=1, max_size=40), st.lists(night, max_size=3))
def test_relink_night_after_night_stays_exact(first: Any, nights: Any) -> None:
    units = unit(first)
    tree = link(units)
    for new, chance in nights:
        gone = [row for row in range(len(units)) if chance.random() < 0.1]
        added = unit(new) if new else np.empty((0, 3), np.float32)
        kept, units = replaced(units, gone, added, seed=chance.randrange(1000))
        tree = relink(tree, kept, units)
        assert_is_single_linkage_of(tree, units)


def peak(units: Matrix) -> int:
    """Bytes allocated at most while the vectors are linked."""
    tracemalloc.start()
    try:
        link(units)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("equal", [False, True])
def test_memory_is_far_below_the_vectors_and_their_distances(
    equal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, d = 4000, 1024
    monkeypatch.setattr(linkage, "_DISTANCES", 128 * n)
    monkeypatch.setattr(linkage, "_CANDIDATES", n * n)  # pruning alone keeps them few
    units = np.memmap(tmp_path / "units", np.float32, "w+", shape=(n, d))
    units[:] = np.eye(1, d) if equal else clustered(n, d, seed=0)
    assert peak(units) < 7e6 < units.nbytes / 2 < n * n * 4 / 7


def test_candidates_that_pruning_cannot_tell_apart_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units = spokes_then_hubs(2000, 64)
    monkeypatch.setattr(linkage, "_BLOCK", 1000)
    monkeypatch.setattr(linkage, "_CANDIDATES", 2000**2)
    unbounded = peak(units)
    monkeypatch.setattr(linkage, "_CANDIDATES", 20_000)
    assert peak(units) < 0.7 * unbounded
