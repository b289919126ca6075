"""The nearest neighbors: exact, nearest first, as SQL has them."""

from __future__ import annotations

import numpy as np
import pytest
from map_pools import add, clustered, names

from hubdelta.explorer.pool import opened_pool
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import connect
from hubdelta.vectors import nearest as tiles
from hubdelta.vectors.nearest import nearest, nearest_among


def units(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("tile", [7, 64, 2048])
def test_they_are_those_of_all_products(tile, monkeypatch):
    monkeypatch.setattr(tiles, "_TILE", tile)
    vectors = units(101)
    distances = np.round(1 - vectors.astype(float) @ vectors.T.astype(float), 6)
    np.fill_diagonal(distances, np.inf)
    found = nearest(vectors, 9)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :9]
    assert (found.index == expected).all()
    assert np.allclose(found.distance, np.take_along_axis(distances, expected, axis=1), atol=1e-7)


def test_equal_ones_follow_their_rows():
    vectors = np.repeat(units(3), 9, axis=0)
    found = nearest(vectors, 5)
    assert found.index[0].tolist() == [1, 2, 3, 4, 5]
    assert found.index[12].tolist() == [9, 10, 11, 13, 14]
    assert (found.distance == 0).all()


def test_of_very_many_equal_ones_any_are_the_nearest():
    vectors = np.repeat(units(2), 500, axis=0)
    found = nearest(vectors, 5)
    assert (found.distance == 0).all()
    assert (found.index[:500] < 500).all()


def test_where_there_are_fewer_the_rest_is_empty():
    found = nearest(units(3), 5)
    assert (found.index >= 0).sum(axis=1).tolist() == [2, 2, 2]
    assert (found.index[:, 2:] == -1).all()
    assert (found.distance[:, 2:] == 2).all()
    assert (nearest(units(1), 2).index == -1).all()


@pytest.mark.parametrize("tile", [5, 2048])
def test_among_some_only_these_are_found(tile, monkeypatch):
    monkeypatch.setattr(tiles, "_TILE", tile)
    vectors, rows, among = units(60), units(13, seed=1), np.arange(3, 60, 3)
    found = nearest_among(rows, vectors, among, 4)
    distances = 1 - rows.astype(float) @ vectors[among].T.astype(float)
    assert (found.index == among[np.argsort(distances, axis=1)[:, :4]]).all()
    assert (nearest_among(rows, vectors, among[:0], 4).index == -1).all()


@pytest.mark.slow
def test_distances_are_those_of_sql(index: Index):
    add(index, names(0, 40), clustered(40))
    with connect(index) as queries, opened_pool(queries) as pool:
        for row in (0, 17):
            exact = queries.run(
                "SELECT adapter, distance FROM neighbors(?, k := 6, exact := true)",
                [pool.adapters[row]],
            ).to_pylist()
            found = pool.neighbors
            assert [pool.adapters[at] for at in found.index[row, :6]] == [
                one["adapter"] for one in exact
            ]
            assert found.distance[row, :6].tolist() == [
                np.float32(one["distance"]) for one in exact
            ]
