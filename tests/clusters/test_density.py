"""HDBSCAN on the tree is HDBSCAN on all pairs, and finds what is a domain."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components
from simulated import Family
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

from hubdelta.sql.views import text_of
from hubdelta.vectors.density import APART, COPY, FEW, FEW_APART, SMALLEST, WITHIN, cluster
from hubdelta.vectors.linkage import link


def in_domains(seed, sizes=(30, 14, 6, 4, 3), noise=8, copies=10):
    """Vectors and their domains, -1 for none."""
    family = Family(seed)
    parts = [family.around(c, n) for c, n in zip(family.directions(len(sizes)), sizes, strict=True)]
    parts += [family.copies(parts[1][0], copies), family.directions(noise)]
    labels = np.repeat([*range(len(sizes)), 1, -1], [*sizes, copies, noise])
    return np.concatenate(parts), labels


def far_of(gaps):
    """Where, step by step from .3 on, the distance is that of √(APART · w), w being of the shorter
    gaps."""
    far = 0.3
    for _ in range(len(gaps)):
        far = np.sqrt(APART * np.quantile([gap for gap in gaps if COPY < gap < far], WITHIN))
    return far


def dense_hdbscan(units):
    """HDBSCAN on all distances of the vectors, copies as one, and of points unrelated to all."""
    pairs = 1 - units.astype(np.float64) @ units.T.astype(np.float64)
    far = far_of(link(units).gap.astype(np.float64))
    n, copies = connected_components(pairs <= COPY)
    distance = np.full((n, n), np.inf)
    np.minimum.at(distance, (copies[:, None], copies[None]), pairs)
    weight = np.full((n + SMALLEST, n + SMALLEST), 1e12)
    weight[:n, :n] = 1e13
    near = distance < far
    weight[:n, :n][near] = 1 / np.log(far / np.maximum(distance, far / 2))[near]
    weight[n:, n:] = 1
    np.fill_diagonal(weight, 0)
    found = HDBSCAN(min_cluster_size=SMALLEST, min_samples=2, metric="precomputed", copy=True).fit(
        weight
    )
    labels = found.labels_[:n]
    is_noise = (labels == -1) | (labels == found.labels_[n])
    strengths = np.where(is_noise, 0, found.probabilities_[:n])
    return np.where(is_noise, -1, labels)[copies], strengths[copies]


@pytest.mark.parametrize("seed", range(6))
def test_the_tree_gives_what_all_pairs_give(seed):
    units, _ = in_domains(seed)
    labels, strengths = cluster(link(units))
    theirs, their_strengths = dense_hdbscan(units)
    assert set(labels) == set(range(-1, labels.max() + 1))
    assert labels.max() >= 3
    assert adjusted_rand_score(labels, theirs) == 1
    np.testing.assert_array_equal(labels < 0, theirs < 0)
    np.testing.assert_allclose(strengths, their_strengths, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_domains_are_found_and_noise_is_left_out(seed):
    units, truth = in_domains(seed)
    labels, strengths = cluster(link(units))
    assert adjusted_rand_score(truth, labels) > 0.95
    assert (labels[truth < 0] < 0).mean() > 0.8
    assert (strengths[labels < 0] == 0).all()
    assert (strengths[labels >= 0] > 0).all()


def test_hundreds_of_copies_do_not_turn_the_rest_of_their_domain_into_noise():
    units, truth = in_domains(1, copies=300)
    labels, _ = cluster(link(units))
    assert set(labels[truth == 1]) == {labels[truth == 1][0]} != {-1}


def test_copies_near_nothing_else_are_a_cluster_of_their_own():
    family = Family(3)
    others = family.directions(FEW)
    units = np.concatenate([others, family.copies(others[0], 5), family.copies(others[1], 1)])
    labels, strengths = cluster(link(units))
    copied = [0, *range(FEW, FEW + 5)]
    assert {tuple(np.flatnonzero(labels == label)) for label in range(labels.max() + 1)} == {
        tuple(copied),
        (1, FEW + 5),
    }
    assert set(strengths[copied]) == {1.0}


def test_a_pool_of_one_domain_is_one_cluster():
    family = Family(2)
    (center,) = family.directions(1)
    units = np.concatenate([family.around(center, 40), family.directions(5)])
    labels, _ = cluster(link(units))
    assert labels.tolist() == [0] * 40 + [-1] * 5


def test_where_all_are_unrelated_all_is_noise():
    labels, strengths = cluster(link(Family(3).directions(60)))
    assert set(labels) == {-1}
    assert not strengths.any()


def test_equal_vectors_are_one_cluster_of_full_strength():
    labels, strengths = cluster(link(np.repeat(Family(4).directions(1), 20, axis=0)))
    assert set(labels) == {0}
    assert set(strengths) == {1.0}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_adapters_than_the_smallest_cluster_are_noise(count):
    labels, strengths = cluster(link(np.repeat(Family(4).directions(1), count, axis=0)))
    assert labels.tolist() == [-1] * count
    assert strengths.tolist() == [0.0] * count


def test_three_adapters_are_a_domain():
    family = Family(5)
    labels, _ = cluster(link(family.around(family.directions(1)[0], 3)))
    assert labels.tolist() == [0, 0, 0]


def test_strength_is_the_density_at_which_a_member_leaves():
    alone = FEW - 3
    tree = SimpleNamespace(
        order=np.arange(3 + alone),
        gap=np.array([np.inf, 0.05, 0.2, *[0.6] * alone], np.float32),
        parent=np.array([-1, 0, 1, *range(2, 2 + alone)]),
    )
    labels, strengths = cluster(tree)
    assert labels.tolist() == [0, 0, 0] + [-1] * alone
    far = far_of([0.05, 0.2])
    assert far / 2 > 0.05
    last = np.log(far / 0.2) / np.log(2)
    np.testing.assert_allclose(strengths, [1, 1, last] + [0] * alone, atol=1e-6)


@pytest.mark.parametrize("median", [0.1, 0.16])
def test_fewer_than_forty_adapters_are_joined_by_steps_that_follow_the_median(median):
    farthest = np.sqrt(FEW_APART * median)
    gap = np.array([np.inf, median, median, farthest + 1e-3, median / 2, 0.4], np.float32)
    tree = SimpleNamespace(order=np.array([3, 1, 0, 5, 2, 4]), gap=gap, parent=np.full(6, -1))
    labels, strengths = cluster(tree)
    assert labels.tolist() == [0, 0, 1, 0, -1, 1]
    assert strengths.tolist() == [1, 1, 1, 1, 0, 1]


def test_sql_and_python_agree_on_what_few_adapters_are():
    assert f"hubdelta.few() AS {FEW};" in text_of("groups.sql")


def apart(labels):
    """The same, with each one in no domain in one of its own."""
    return np.where(labels < 0, -1 - np.arange(len(labels)), labels)


@pytest.mark.parametrize("within", [0.93, 0.86, 0.75])
@pytest.mark.parametrize("size", [30, 300, 1500])
def test_domains_are_found_however_wide_they_spread(within, size):
    """The same domains at half, all and nearly twice the spread, in pools of any size."""
    family, weights = Family(size), 1 / np.arange(1, size // 10 + 3)
    sizes = np.maximum(np.round(0.9 * size * weights / weights.sum()).astype(int), 2)
    parts = [
        family.around(center, n, within)
        for center, n in zip(family.directions(len(sizes)), sizes, strict=True)
    ]
    truth = np.repeat([*range(len(sizes)), -1], [*sizes, size // 10])
    labels, _ = cluster(link(np.concatenate([*parts, family.directions(size // 10)])))
    assert adjusted_rand_score(apart(truth), apart(labels)) >= 0.95


@pytest.mark.parametrize("spread", ["tight", "loose"])
def test_thousands_do_not_become_one_domain(spread):
    """Zipf sizes, wide spread: where single linkage at .25 chains and density from .5 on did."""
    random, within = np.random.default_rng(4), {"tight": 0.9, "loose": 0.8}[spread]
    family, weights = Family(4), 1 / np.arange(1, 81)
    sizes = random.multinomial(1400, weights / weights.sum())
    centers = family.directions(len(sizes))
    parts = [family.around(c, n, within) for c, n in zip(centers, sizes, strict=True)]
    truth = np.repeat(np.arange(len(sizes)), sizes)
    labels, _ = cluster(link(np.concatenate(parts)))
    assert adjusted_rand_score(truth, apart(labels)) >= 0.95


def test_the_order_of_the_vectors_does_not_matter():
    units, _ = in_domains(6)
    shuffled = np.random.default_rng(0).permutation(len(units))
    labels, strengths = cluster(link(units))
    again, strengths_again = cluster(link(units[shuffled]))
    assert adjusted_rand_score(labels[shuffled], again) == 1
    np.testing.assert_allclose(strengths_again, strengths[shuffled], atol=1e-4)
