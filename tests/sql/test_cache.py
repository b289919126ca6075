"""The cache and the Parquet files give the same answers, to every question."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from geometry import adapter, apart, at
from rows import catalog_row, failure_row, vector_row

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.search.function import rounded

OverParquet = Callable[[Index], Queries]

EARLY, LATE = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 12))
OLD, NEW = "1" * 40, "2" * 40

NAMES = [
    *("a/zero", "a/ten", "a/many/x/y", "a/many/z", "a/revised", f"a/revised@{OLD}"),
    *(f"a/silenced@{OLD}", "a/silenced", "a/nan", "a/two", "a/gone", "a/mirror", "a/unknown"),
    *("a/faint", "w/0", "/home/me/run@3", "no/such", "a/twice", "a/huge", "a/tiny", "a/tie-1"),
]

QUESTIONS = [
    *("FROM adapters", "FROM vectors", "FROM comparable", "FROM catalog", "FROM failures"),
    *(
        f"SELECT base, domain, size, adapter, repo_id, subfolder, revision"
        f" FROM hubdelta.components({base}, distance := {distance})"
        for base in ("NULL", "'org/base'", "'org/wide'", "'no/base'")
        for distance in (0, apart(10), apart(9.9), 0.25, 2)
    ),
    *(f"FROM pairs({base}, distance := 0.3)" for base in ("NULL", "'org/base'", "'org/wide'")),
    *(f"FROM pairs(NULL, distance := {distance}, exact := true)" for distance in (2, apart(10))),
]

ORDERED = [
    *(f"FROM duplicates(NULL, distance := {d})" for d in (0, apart(10), apart(9.9), 2)),
    *(f"FROM domains('org/base', distance := {d})" for d in (0, apart(10), 0.25)),
]


def asked(name: str) -> list[str]:
    return [
        f"FROM neighbors('{name}')",
        f"FROM neighbors('{name}', k := 3, exact := true)",
        f"FROM within('{name}', distance := {apart(10)})",
        f"FROM within('{name}', distance := 0.4, exact := true)",
        f"SELECT similarity('{name}', n.name) FROM (SELECT unnest({NAMES}) AS name) AS n",
    ]


@pytest.fixture
def awkward(fill: Callable[..., Index]) -> Index:
    """Ties, vectors without direction, many recipes, bases, revisions and states."""
    index = fill(
        *(adapter(f"a/{name}", degrees) for name, degrees in [("zero", 0), ("ten", 10)]),
        *(adapter(f"a/tie-{i}", (-1) ** i * 20, downloads=i, license="mit") for i in range(6)),
        adapter("a/many", 33, subfolder="x/y", datasets=["d/one", "d/two"]),
        adapter("a/many", 33, subfolder="z"),
        adapter("/home/me/run@3", 47),
        adapter("a/opposite", 180),
        adapter("a/two", 55),
        adapter("a/two", 3, base="org/second"),
        adapter("b/two", 13, base="org/second"),
        adapter("a/gone", 12, vanished_at=LATE, crawled_at=LATE),
        adapter("a/mirror", 1, kind="mirror"),
    )
    index.write(
        [
            *(catalog_row(repo_id=f"a/{name}") for name in ("faint", "nan", "inf", "null", "huge")),
            catalog_row(repo_id="a/failed"),
            catalog_row(repo_id="a/revised", revision=OLD, crawled_at=EARLY),
            catalog_row(repo_id="a/silenced", revision=NEW, crawled_at=LATE, downloads=7),
        ],
        base="org/base",
    )
    index.write([catalog_row(repo_id="a/revised", revision=NEW, crawled_at=LATE)], base="org/base")
    index.write([failure_row(repo_id="a/failed"), failure_row(repo_id="a/ten")], base="org/base")
    index.write(
        [
            vector_row(repo_id="a/faint", delta=at(5), signal=1.0),
            vector_row(repo_id="a/huge", delta=at(6, 1e30)),
            vector_row(repo_id="a/tiny", delta=at(6, 1e-30)),
            *(
                vector_row(repo_id=f"a/{name}", delta=np.array([x, 1], np.float32))
                for name, x in [("nan", np.nan), ("inf", -np.inf)]
            ),
            vector_row(repo_id="a/null", delta=at(0, 0.0)),
            vector_row(repo_id="a/unknown", delta=at(7)),
            vector_row(repo_id="a/revised", revision=OLD, delta=at(90), embedded_at=LATE),
            vector_row(repo_id="a/revised", revision=NEW, delta=at(14), embedded_at=EARLY),
            vector_row(repo_id="a/silenced", revision=OLD, delta=at(2), embedded_at=EARLY),
            vector_row(repo_id="a/silenced", revision=NEW, delta=at(0, 0.0), embedded_at=LATE),
        ],
        base="org/base",
    )
    index.write(
        [
            vector_row(repo_id=f"a/{name}", delta=at(d), recipe_id="other", embedded_at=when)
            for name, d, when in [("zero", 70, LATE), ("ten", 71, EARLY), ("gone", 72, LATE)]
        ],
        base="org/base",
    )
    for degrees, when in [(100, EARLY), (101, LATE), (102, LATE), (103, EARLY)]:
        row = vector_row(repo_id="a/twice", delta=at(degrees), embedded_at=when)
        index.write([row], base="org/base")
    wide = np.random.default_rng(5).normal(size=(12, 5)).astype(np.float32)
    index.write([catalog_row(repo_id=f"w/{i}", base="org/wide") for i in range(9)], base="org/wide")
    index.write(
        [vector_row(repo_id=f"w/{i}", base="org/wide", delta=wide[i % 10]) for i in range(12)],
        base="org/wide",
    )
    return index


def unordered(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.mark.slow
def test_each_view_has_the_same_columns_in_the_same_order(
    index: Index, over_parquet: OverParquet
) -> None:
    query = (
        "SELECT view_name, column_name, data_type FROM duckdb_views() JOIN duckdb_columns()"
        " ON view_name = table_name AND duckdb_columns.database_name = current_database()"
        " WHERE duckdb_views.schema_name = 'main' AND NOT duckdb_views.internal"
        " ORDER BY view_name, column_index"
    )
    with connect(index) as cached:
        assert cached.run(query).to_pylist() == over_parquet(index).run(query).to_pylist()


@pytest.mark.slow
def test_an_awkward_pool_gives_the_same_answers(awkward: Index, over_parquet: OverParquet) -> None:
    parquet = over_parquet(awkward)
    with connect(awkward) as cached:
        assert cached.parquet is None
        for query in QUESTIONS:
            theirs, ours = (q.run(query).to_pylist() for q in (parquet, cached))
            assert unordered(ours) == unordered(theirs), query
        for query in [*ORDERED, *(query for name in NAMES for query in asked(name))]:
            assert repr(cached.run(query).to_pylist()) == repr(parquet.run(query).to_pylist()), (
                query
            )


@pytest.mark.slow
@pytest.mark.parametrize("bases", [("org/a", "org/b"), ("org/b", "org/a")], ids=", then ".join)
def test_of_equally_new_vectors_the_alphabet_decides_which_one_a_name_stands_for(
    bases: tuple[str, str], index: Index, over_parquet: OverParquet
) -> None:
    for base in bases:
        own = 10 if base == "org/a" else 20
        for name, recipe, degrees in [
            *(("a/me", recipe, 0) for recipe in ("y", "x")),
            *(("a/other", recipe, own + (recipe == "y")) for recipe in ("y", "x")),
        ]:
            listed, vector = adapter(name, degrees, base=base, recipe_id=recipe)
            index.write([listed], base=base)
            index.write([vector], base=base)
            cache.refresh(index)  # it takes the vectors in as they came
    with connect(index) as cached:
        for queries in (cached, over_parquet(index)):
            for query in ("FROM neighbors('a/me')", "FROM within('a/me', distance := 0.4)"):
                [row] = queries.run(query).to_pylist()
                assert (row["base"], row["distance"]) == ("org/a", apart(10))
            [row] = queries.run("SELECT similarity('a/me', 'a/other') AS cosine").to_pylist()
            assert row["cosine"] == 1 - apart(10)


@pytest.mark.slow
def test_vectors_without_direction_are_in_no_answer(awkward: Index) -> None:
    silent = {"a/faint", "a/nan", "a/inf", "a/null", "a/huge", "a/tiny", "a/silenced"}
    with connect(awkward) as queries:
        rows = queries.run("FROM within('a/zero', distance := 2)").to_pylist()
        rows += queries.run("FROM neighbors('a/two', k := 99, exact := true)").to_pylist()
        rows += queries.run("FROM hubdelta.components('org/base')").to_pylist()
        rows += queries.run("FROM comparable WHERE current").to_pylist()
    assert len(rows) > 50
    assert {row["adapter"] for row in rows}.isdisjoint(silent)


def random_pool(index: Index, n: int, hidden: int, clusters: int) -> None:
    rng = np.random.default_rng(n)
    centers = rng.normal(size=(clusters, hidden)) + rng.normal(size=hidden)
    deltas = centers[rng.integers(clusters, size=n)] + 0.5 * rng.normal(size=(n, hidden))
    deltas[n // 2 : n // 2 + n // 50] = deltas[: n // 50]  # exact duplicates
    names = [f"r/{i:04}" for i in range(n)]
    index.write([catalog_row(repo_id=name) for name in names], base="org/base")
    rows = zip(names, deltas.astype(np.float32), strict=True)
    index.write([vector_row(repo_id=name, delta=delta) for name, delta in rows], base="org/base")


@pytest.fixture
def large(index: Index) -> Index:
    """More vectors than the candidates that sketches choose."""
    random_pool(index, 3000, 64, 40)
    return index


@pytest.mark.slow
def test_candidates_hold_almost_all_nearest_and_exact_holds_all(
    large: Index, over_parquet: OverParquet
) -> None:
    parquet = over_parquet(large)
    found, wanted = 0, 0
    with connect(large) as cached:
        for name in [f"r/{i:04}" for i in range(0, 3000, 250)]:
            true = parquet.run("FROM neighbors(?)", [name]).to_pylist()
            assert cached.run("FROM neighbors(?, exact := true)", [name]).to_pylist() == true
            near = cached.run("FROM neighbors(?)", [name]).to_pylist()
            found += sum(row in true for row in near)
            wanted += len(true)
            true = parquet.run("FROM within(?, distance := 0.3)", [name]).to_pylist()
            assert cached.run("FROM within(?, distance := 0.3)", [name]).to_pylist() == true
    assert wanted == 120
    assert found / wanted >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), [(103, 102), (110, 109), (230, 150), (1000, 30)])
def test_in_a_small_pool_as_many_are_found_as_are_asked_for(
    index: Index, over_parquet: OverParquet, n: int, k: int
) -> None:
    random_pool(index, n, 64, 10)
    parquet = over_parquet(index)
    with connect(index) as cached:
        for name in [f"r/{i:04}" for i in range(0, n, n // 5)]:
            true, near = (
                queries.run("FROM neighbors(?, k := ?)", [name, k]).to_pylist()
                for queries in (parquet, cached)
            )
            assert len(near) == k
            assert len([row for row in near if row in true]) >= 0.99 * k


@pytest.mark.slow
def test_same_names_of_other_repositories_follow_the_alphabet_of_these(
    index: Index, over_parquet: OverParquet
) -> None:
    same = [adapter("a/x", 20, subfolder="y"), adapter("a/x/y", 20), adapter("a/me", 0)]
    for cataloged, vector in reversed(same):
        index.write([cataloged], base="org/base")
        index.write([vector], base="org/base")
        cache.refresh(index)
    parquet = over_parquet(index)
    with connect(index) as cached:
        for queries in (parquet, cached):
            for query in ("neighbors('a/me', k := 2)", "within('a/me')"):
                assert queries.run(f"FROM {query}")["repo_id"].to_pylist() == ["a/x", "a/x/y"]


def test_among_many_equal_candidates_the_alphabet_decides(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/me", 0), *(adapter(f"a/{i:04}", 20) for i in reversed(range(1500))))
    with connect(index) as queries:
        for exact in (False, True):
            found = queries.run("FROM neighbors('a/me', k := 3, exact := ?)", [exact])
            assert found["adapter"].to_pylist() == ["a/0000", "a/0001", "a/0002"]


def test_similarities_are_rounded_as_duckdb_rounds() -> None:
    halves = (np.arange(-2000, 2001) + 0.5) / 1e6
    drawn = np.random.default_rng(0).uniform(-1, 3, 20_000)
    values = np.concatenate([
        halves, np.nextafter(halves, 2), np.nextafter(halves, -2), drawn, [0, -0.0, -4e-7, 1, -1],
    ])  # fmt: skip
    table = pa.table({"x": values})
    with duckdb.connect() as database:
        database.register("drawn", table)
        true = database.sql("SELECT round(x, 6) + 0 FROM drawn").fetchnumpy()
    (theirs,) = true.values()
    assert rounded(values).tobytes() == np.asarray(theirs).tobytes()


@pytest.mark.slow
def test_a_negative_number_of_neighbors_is_refused(
    fill: Callable[..., Index], over_parquet: OverParquet
) -> None:
    index = fill(adapter("a/me", 0), adapter("a/near", 10))
    parquet = over_parquet(index)
    with connect(index) as cached:
        for queries in (parquet, cached):
            with pytest.raises(QueryError, match=r"Error: .{1,16} cannot be negative"):
                queries.run("FROM neighbors('a/me', k := -1)")


@pytest.mark.slow
def test_pairs_and_components_agree_at_and_between_the_distances_of_pairs(
    index: Index, over_parquet: OverParquet
) -> None:
    random_pool(index, 120, 16, 8)
    parquet = over_parquet(index)
    rows = parquet.run("FROM duplicates(NULL, distance := 2)").to_pylist()
    distances = sorted({row["distance"] for row in rows})[:: len(rows) // 40]
    with connect(index) as cached:
        assert cached.run("FROM duplicates(NULL, distance := 2)").to_pylist() == rows
        for distance in [*distances, *(d - 1e-6 for d in distances[1:])]:
            for query in (
                "FROM duplicates('org/base', distance := ?)",
                "SELECT adapter, domain, size FROM hubdelta.components(NULL, distance := ?)"
                " ORDER BY adapter",
            ):
                theirs, ours = (q.run(query, [distance]).to_pylist() for q in (parquet, cached))
                assert ours == theirs, (query, distance)
