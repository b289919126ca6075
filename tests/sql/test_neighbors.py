"""The macros that compare: order, limits, and what is never compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from geometry import adapter, apart, at, write_pairs
from rows import catalog_row, vector_row
from sharing import copy_of, opened

from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache

LATE = datetime(2026, 12, 1, tzinfo=UTC)
OLD = "9" * 40


def column(index: Index, query: str, *parameters: object) -> list[object]:
    queries = opened.of(index, linked=True)
    return list(queries.run(query, parameters).column(0).to_pylist())


@pytest.fixture(scope="module")
def whole_fan(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Adapters at 0, 10, 30, 60 and 180 degrees, to be read only."""
    index = write_pairs(
        Index.create(tmp_path_factory.mktemp("fan") / "index"),
        adapter("a/zero", 0),
        adapter("a/ten", 10, downloads=5, license="mit", datasets=["org/data"]),
        adapter("a/thirty", 30),
        adapter("a/sixty", 60, subfolder="x"),
        adapter("a/opposite", 180),
    )
    cache.refresh(index)
    return index


@pytest.fixture
def fan(whole_fan: Index, tmp_path: Path) -> Index:
    """The same adapters in an index of the test's own."""
    return copy_of(whole_fan, tmp_path / "index")


def test_neighbors_come_nearest_first_without_the_adapter_itself(whole_fan: Index) -> None:
    assert column(whole_fan, "FROM neighbors('a/zero')") == [
        "a/ten",
        "a/thirty",
        "a/sixty/x",
        "a/opposite",
    ]


def test_a_row_says_how_near_and_what_it_is(whole_fan: Index) -> None:
    (row,) = opened.of(whole_fan).run("FROM neighbors('a/zero', k := 1)").to_pylist()
    assert row["similarity"] == round(math.cos(math.radians(10)), 6)
    assert row["distance"] == apart(10)
    assert (row["signal"], row["downloads"], row["license"]) == (1000.0, 5, "mit")
    assert (row["datasets"], row["base"]) == (["org/data"], "org/base")


def test_k_limits_the_neighbors(whole_fan: Index) -> None:
    assert len(column(whole_fan, "FROM neighbors('a/zero', k := 2)")) == 2


def test_within_keeps_what_is_exactly_at_the_distance(whole_fan: Index) -> None:
    query = "FROM within('a/zero', distance := ?)"
    assert column(whole_fan, query, apart(30)) == ["a/ten", "a/thirty"]
    assert column(whole_fan, query, apart(29)) == ["a/ten"]
    assert column(whole_fan, "FROM within('a/zero')") == ["a/ten", "a/thirty"]


def test_equal_neighbors_follow_the_alphabet(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/me", 0), *(adapter(f"a/{name}", 20) for name in "dbca"))
    assert column(index, "FROM neighbors('a/me')") == ["a/a", "a/b", "a/c", "a/d"]


def test_an_adapter_of_a_subfolder_is_named_by_its_path(whole_fan: Index) -> None:
    assert column(whole_fan, "FROM neighbors('a/sixty/x', k := 1)") == ["a/thirty"]


def test_a_local_folder_is_named_by_its_absolute_path(fill: Callable[..., Index]) -> None:
    index = fill(adapter("/home/me/run@3", 0), adapter("a/near", 10))
    assert column(index, "FROM neighbors('/home/me/run@3')") == ["a/near"]


def test_a_given_revision_takes_exactly_that_vector(fan: Index) -> None:
    fan.write([vector_row(repo_id="a/zero", revision=OLD, delta=at(58))], base="org/base")
    assert column(fan, f"FROM neighbors('a/zero@{OLD}', k := 1)") == ["a/sixty/x"]
    assert column(fan, "FROM neighbors('a/zero', k := 1)") == ["a/ten"]
    assert column(fan, f"SELECT similarity('a/zero', 'a/zero@{OLD}')") == [
        round(math.cos(math.radians(58)), 6)
    ]


def test_an_older_revision_is_nobodys_neighbor(fan: Index) -> None:
    fan.write([vector_row(repo_id="a/ten", revision=OLD, delta=at(1))], base="org/base")
    (row,) = opened.of(fan).run("FROM neighbors('a/zero', k := 1)").to_pylist()
    assert (row["adapter"], row["revision"]) == ("a/ten", "0" * 40)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [-np.inf, 1.0]])
def test_vectors_without_direction_never_rank(fan: Index, bad: list[float]) -> None:
    fan.write([catalog_row(repo_id="a/bad")], base="org/base")
    fan.write([vector_row(repo_id="a/bad", delta=np.array(bad, np.float32))], base="org/base")
    assert "a/bad" not in column(fan, "FROM neighbors('a/zero')")
    assert column(fan, "FROM neighbors('a/bad')") == []
    assert column(fan, "SELECT similarity('a/bad', 'a/zero')") == [None]
    assert not any("a/bad" in (a, b) for a, b in zip(
        column(fan, "SELECT a FROM pairs('org/base')"),
        column(fan, "SELECT b FROM pairs('org/base')"),
        strict=True,
    ))  # fmt: skip


def test_other_recipes_and_bases_are_never_compared(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/me", 0),
        adapter("a/near", 40),
        adapter("a/recipe", 1, recipe_id="another"),
        adapter("a/base", 1, base="org/other"),
    )
    assert column(index, "FROM neighbors('a/me')") == ["a/near"]
    assert column(index, "FROM neighbors('a/recipe')") == []
    assert column(index, "SELECT similarity('a/me', 'a/recipe')") == [None]
    assert column(index, "SELECT similarity('a/me', 'a/base')") == [None]
    assert column(index, "SELECT a FROM pairs(NULL)") == ["a/me"]


def test_of_several_recipes_the_one_embedded_last_is_used(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/me", 0), adapter("a/x", 10), adapter("a/y", 40))
    for repo_id, degrees in [("a/me", 0), ("a/x", 40), ("a/y", 10)]:
        index.write(
            [vector_row(repo_id=repo_id, delta=at(degrees), recipe_id="new", embedded_at=LATE)],
            base="org/base",
        )
    assert column(index, "FROM neighbors('a/me')") == ["a/y", "a/x"]
    assert column(index, "SELECT similarity('a/me', 'a/y')") == [1 - apart(10)]


def test_similarity_is_symmetric_and_one_with_itself(whole_fan: Index) -> None:
    query = "SELECT similarity('a/ten', 'a/sixty/x') - similarity('a/sixty/x', 'a/ten')"
    assert column(whole_fan, query) == [0.0]
    assert column(whole_fan, "SELECT similarity('a/ten', 'a/ten')") == [1.0]
    assert column(whole_fan, "SELECT similarity('a/zero', 'a/opposite')") == [-1.0]
    assert column(whole_fan, "SELECT similarity('a/zero', 'no/such')") == [None]


def test_similarity_takes_columns(whole_fan: Index) -> None:
    query = "SELECT max(abs(similarity - similarity(a, b))) FROM pairs('org/base')"
    assert column(whole_fan, query) == [0.0]


def test_pairs_holds_each_two_adapters_once(whole_fan: Index) -> None:
    assert column(whole_fan, "SELECT count(*) FROM pairs('org/base') WHERE a < b") == [10]
    assert column(whole_fan, "SELECT count(*) FROM pairs('org/base')") == [10]


def test_duplicates_are_the_nearest_pairs(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/b", 0), adapter("a/a", 2), adapter("a/c", 50), adapter("a/d", 51)
    )  # fmt: skip
    queries = opened.of(index, linked=True)
    rows = queries.run("SELECT a, b, distance FROM duplicates('org/base')").to_pylist()
    assert len(queries.run("FROM duplicates('org/base', distance := 0)")) == 0
    assert len(queries.run("FROM duplicates('no/base')")) == 0
    assert [tuple(row.values()) for row in rows] == [
        ("a/c", "a/d", apart(1)),
        ("a/a", "a/b", apart(2)),
    ]


def test_a_name_is_a_value_and_never_sql(fan: Index) -> None:
    evil = "x' OR adapter <> '"
    assert column(fan, "FROM neighbors(?)", evil) == []
    fan.write([vector_row(repo_id=evil, delta=at(5))], base="org/base")
    assert column(fan, "FROM neighbors(?, k := 1)", evil) in (["a/ten"], ["a/zero"])
