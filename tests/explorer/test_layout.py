"""The layout: near means alike, whatever the size; the same vectors, the same map."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from map_pools import clustered
from sklearn.manifold import trustworthiness

from hubdelta.explorer import layout
from hubdelta.explorer.layout import aligned, fitted, lay_out, principal_plane
from hubdelta.schemas.errors import MissingExtraError
from hubdelta.vectors.nearest import nearest

pytestmark = pytest.mark.slow


def units(n: int, **how) -> np.ndarray:
    vectors = clustered(n, **how)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def laid_out(vectors, start=None):
    return lay_out(vectors, lambda: nearest(vectors, 20), start)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 11, 40])
def test_every_size_has_a_finite_layout(n):
    plane, method = laid_out(units(n))
    assert plane.shape == (n, 2)
    assert np.isfinite(plane).all()
    assert method == ("plane" if n < 6 else "tsne")


def test_three_points_keep_their_distances():
    vectors = units(3)
    plane = principal_plane(vectors)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        apart = np.linalg.norm(vectors[a] - vectors[b])
        assert np.linalg.norm(plane[a] - plane[b]) == pytest.approx(apart, abs=1e-5)


@pytest.mark.parametrize("n", [4, 12])
def test_equal_vectors_are_no_trouble(n):
    plane, _ = laid_out(np.repeat(units(1), n, axis=0))
    assert np.isfinite(plane).all()


def test_tsne_shows_clusters_and_is_the_same_each_time():
    vectors = units(200, clusters=8)
    plane, method = laid_out(vectors)
    assert method == "tsne"
    assert trustworthiness(vectors, plane, n_neighbors=10, metric="cosine") > 0.95
    assert (laid_out(vectors)[0] == plane).all()


def test_umap_shows_clusters_and_is_the_same_each_time(monkeypatch):
    monkeypatch.setattr(layout, "LEAST_OF_UMAP", 200)
    vectors = units(300, clusters=8)
    plane, method = laid_out(vectors)
    assert method == "umap"
    assert trustworthiness(vectors, plane, n_neighbors=10, metric="cosine") > 0.95
    assert (laid_out(vectors)[0] == plane).all()


def test_without_umap_a_large_pool_says_what_to_install(monkeypatch):
    monkeypatch.setattr(layout, "LEAST_OF_UMAP", 10)
    monkeypatch.setattr(layout, "find_spec", lambda name: None)
    assert importlib.util.find_spec("umap")
    with pytest.raises(MissingExtraError, match=r"pip install 'hubdelta\[map\]'"):
        laid_out(units(10))


def test_aligning_undoes_turning_mirroring_scaling_and_moving():
    earlier = np.random.default_rng(0).normal(size=(30, 2))
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])
    common = np.arange(30) < 20
    found = aligned(earlier @ turn * 7 + [3, -2], earlier, common)
    assert np.allclose(found, earlier)


def test_one_common_point_is_enough_to_go_on():
    plane = np.random.default_rng(0).normal(size=(5, 2))
    found = aligned(plane, np.zeros((5, 2)), np.arange(5) == 3)
    assert np.abs(found).max() == pytest.approx(1)


def test_fitting_keeps_proportions():
    found = fitted(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]]))
    assert found.tolist() == [[-1, -0.5], [1, -0.5], [1, 0.5]]
    assert fitted(np.array([[4.0, 4.0]])).tolist() == [[0, 0]]
