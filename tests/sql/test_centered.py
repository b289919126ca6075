"""Centered domains: without what all adapters of a base share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from rows import catalog_row, vector_row

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.questions.centered import center, centered

SHARED = 3.0


@pytest.fixture
def two_kinds(index: Index) -> Index:
    """Two kinds of adapters that differ little beside what all of them share."""
    random = np.random.default_rng(0)
    kinds = random.standard_normal((2, 64)) / 8
    shared = SHARED * random.standard_normal(64) / 8
    names = [f"{kind}/{number}" for kind in "ab" for number in range(5)]
    index.write([catalog_row(repo_id=name) for name in names], base="org/base")
    index.write(
        [
            vector_row(
                repo_id=name,
                delta=(shared + kinds["ab".index(name[0])] + random.normal(0, 0.02, 64)).astype(
                    np.float32
                ),
            )
            for name in names
        ],
        base="org/base",
    )
    return index


def members(queries: Queries, distance: float) -> list[set[str]]:
    rows = queries.run("FROM domains('org/base', distance := ?)", [distance]).to_pylist()
    return [{name[0] for name in row["members"]} for row in rows]


@pytest.mark.slow
def test_centering_tells_apart_what_a_shared_direction_hides(two_kinds: Index) -> None:
    with connect(two_kinds) as queries:
        assert members(queries, 0.25) == [{"a", "b"}]
        with centered(queries, "org/base"):
            assert sorted(map(sorted, members(queries, 0.25))) == [["a"], ["b"]]
        assert members(queries, 0.25) == [{"a", "b"}], "afterwards all is as it was"


def test_an_error_inside_leaves_the_stored_linkage_in_place(two_kinds: Index) -> None:
    with connect(two_kinds) as queries:
        with pytest.raises(QueryError), centered(queries):
            queries.run("FROM nothing")
        assert members(queries, 0.25) == [{"a", "b"}]


def test_without_a_cache_it_is_refused(two_kinds: Index) -> None:
    (two_kinds.root / ".cache.lock").mkdir()
    with (
        connect(two_kinds) as queries,
        pytest.raises(QueryError, match="needs the cache"),
        centered(queries),
    ):
        pass


def units(rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    vectors = np.asarray(rows, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_centered_vectors_have_length_one_and_lie_around_their_mean() -> None:
    vectors = units(np.random.default_rng(1).normal(1, 1, (9000, 8)))
    before = vectors.astype(np.float64)
    center(vectors)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    expected = before - before.mean(axis=0)
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1)[:, None], atol=1e-5)


def test_equal_vectors_keep_their_direction() -> None:
    vectors = units([[3, 4]] * 5)
    center(vectors)
    assert np.allclose(vectors, [[0.6, 0.8]] * 5)
