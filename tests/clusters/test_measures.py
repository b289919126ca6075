"""The measures of clusters against all pairs, and against scikit-learn's silhouettes."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import Family
from sklearn.metrics import silhouette_samples

from hubdelta.vectors.measures import measure


def labeled(seed=0, size=400):
    """Clusters, noise and vectors of another cluster among them, in no order: several blocks."""
    family = Family(seed)
    centers = family.directions(5)
    labels = family.random.integers(-1, 5, size=5 * size)
    units = np.concatenate([family.around(centers[label], 1, 0.7) for label in labels])
    stray = family.random.random(len(labels)) < 0.1
    labels[stray] = family.random.permutation(labels[stray])
    return labels, units


def test_likeness_is_the_mean_cosine_to_the_other_members():
    labels, units = labeled()
    found = measure(labels, units).likeness
    exact = units.astype(np.float64)
    for label in range(5):
        members = exact[labels == label]
        cosines = members @ members.T
        np.fill_diagonal(cosines, 0)
        expected = cosines.sum(axis=1) / (len(members) - 1)
        np.testing.assert_allclose(found[labels == label], expected, atol=1e-12)


def test_silhouettes_are_those_of_scikit_learn():
    labels, units = labeled()
    clustered = labels >= 0
    exact = units[clustered].astype(np.float64)
    distance = 1 - exact @ exact.T
    np.fill_diagonal(distance, 0)
    expected = silhouette_samples(distance, labels[clustered], metric="precomputed")
    found = measure(labels, units).silhouette[clustered]
    assert expected.min() < 0
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_distances_above_one_are_not_cut():
    units = np.array([[1, 0], [0.8, 0.6], [-1, 0], [-0.8, -0.6]], np.float32)
    found = measure(np.array([0, 0, 1, 1]), units)
    np.testing.assert_allclose(found.likeness, 0.8, atol=1e-6)
    np.testing.assert_allclose(found.silhouette, 1 - 0.2 / 1.9, atol=1e-6)


def test_noise_has_no_measures():
    labels, units = labeled()
    found = measure(labels, units)
    assert np.isnan(found.likeness[labels < 0]).all()
    assert np.isnan(found.silhouette[labels < 0]).all()
    assert np.isfinite(found.likeness[labels >= 0]).all()


def test_a_single_cluster_has_no_silhouette():
    labels, units = labeled()
    with np.errstate(all="raise"):
        found = measure(np.where(labels == 0, 0, -1), units)
    assert np.isnan(found.silhouette).all()
    assert np.isfinite(found.likeness[labels == 0]).all()


@pytest.mark.parametrize("count", [0, 3])
def test_without_clusters_nothing_is_measured(count):
    found = measure(np.full(count, -1), np.ones((count, 4), np.float32))
    assert len(found.likeness) == len(found.silhouette) == count
    assert np.isnan(found.likeness).all()
