"""`<index>/hubdelta.sql`: the same answers in a plain DuckDB, the oldest and the installed one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from geometry import adapter, apart
from pages import PAGES, text_of
from rows import catalog_row, failure_row, vector_row

from hubdelta.schemas.errors import IndexWriteError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import LabelRow, PromotionRow
from hubdelta.sql.connection import connect
from hubdelta.sql.script import OLDEST_DUCKDB, SCRIPT_NAME, script, write_script

Ask = Callable[..., list[Any]]

QUERIES = [
    "FROM adapters ORDER BY base, adapter",
    "FROM catalog ORDER BY base, adapter",
    "FROM vectors ORDER BY base, adapter",
    "FROM comparable ORDER BY base, adapter",
    "FROM failures",
    "FROM bases",
    "FROM runs",
    "FROM clusters ORDER BY base, adapter",
    "FROM labels ORDER BY adapter",
    "FROM promotions ORDER BY base, adapter",
    "FROM promotes('org/a-00')",
    "FROM promotes('org/a-00@0000000000000000000000000000000000000000')",
    "FROM maps ORDER BY base, adapter",
    "FROM spaces ORDER BY base, adapter, space",
    "FROM neighbors('org/a-00', k := 5)",
    "FROM within('org/a-00', distance := 0.4)",
    "SELECT similarity('org/a-00', 'org/a-01') AS s",
    "FROM pairs('org/base') ORDER BY a, b",
    "FROM duplicates('org/base', distance := 0.05)",
    "FROM domains('org/base')",
    "FROM domains(NULL, distance := 0.1)",
    "FROM domain_terms(NULL, distance := 0.1)",
    "FROM suggestions('org/base')",
    "FROM outliers(NULL, k := 5)",
    """FROM "between"('org/a-00', 'org/a-01', k := 5)""",
    "FROM compare('org/a-00', 'org/a-04')",
    "FROM new_since('2026-10-01')",
    "DESCRIBE adapters",
    "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE schema_name = 'main'"
    " AND NOT internal AND database_name = current_database() ORDER BY ALL",
    "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main'"
    " AND NOT internal AND database_name = current_database() ORDER BY ALL",
    "SELECT function_name, comment FROM duckdb_functions() WHERE schema_name = 'main'"
    " AND NOT internal AND function_type LIKE '%macro' ORDER BY ALL",
]


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Twenty adapters in 24 dimensions, a failed one, a zero one, and a second base.

    It has its script, and is to be read only.
    """
    index = Index.create(tmp_path_factory.mktemp("varied") / "index")
    rng = np.random.default_rng(3)
    listed, vectors = [], []
    for i in range(20):
        name = f"org/a-{i:02}"
        center = np.eye(24, dtype=np.float32)[i % 4]
        delta = center + rng.normal(size=24).astype(np.float32) * 0.15
        listed.append(catalog_row(repo_id=name, tags=[f"topic{i % 4}"], downloads=i))
        vectors.append(vector_row(repo_id=name, delta=delta))
    listed += [catalog_row(repo_id="org/failed"), catalog_row(repo_id="org/zero")]
    vectors.append(vector_row(repo_id="org/zero", delta=np.zeros(24, np.float32)))
    index.write(listed, base="org/base")
    index.write(vectors, base="org/base")
    index.write([failure_row(repo_id="org/failed")], base="org/base")
    index.write([catalog_row(base="/models/x y")], base="/models/x y")
    index.write([vector_row(base="/models/x y")], base="/models/x y")
    then = datetime(2026, 11, 2, tzinfo=UTC)
    index.write(
        [LabelRow(adapter=f"org/a-{i:02}", label=f"l{i}", labelled_at=then) for i in (0, 1)]
    )
    row = PromotionRow(
        base="org/base",
        recipe_id="recipe",
        adapter="org/a-00",
        revision="0" * 40,
        promotes=["law", "'; --"],
        promotes_by=[2.5, 1.0],
        suppresses=["4 spaces"],
        suppresses_by=[-0.25],
        pool=20,
        read_at=then,
        run_id="r",
    )
    index.write(
        [row, replace(row, promotes=["newer"], promotes_by=[3.0], run_id="s")], base=row.base
    )
    write_script(index)
    return index


@pytest.fixture(scope="module")
def ours(varied: Index) -> list[Any]:
    """What our connection answers."""
    with connect(varied) as queries:
        return [queries.run(query).to_pylist() for query in QUERIES]


# 1.3 has faults of its own: it took columns for others where the oldest and the newest did not.
@pytest.mark.slow
@pytest.mark.parametrize("ask", [duckdb.__version__, "1.3.2", OLDEST_DUCKDB], indirect=True)
def test_plain_duckdb_gives_the_answers_of_our_connection(
    varied: Index, ours: list[Any], ask: Ask
) -> None:
    answers = ask(varied.root / SCRIPT_NAME, QUERIES)
    for query, theirs, own in zip(QUERIES, answers, ours, strict=True):
        assert theirs == json.loads(json.dumps(own, default=str)), query


def test_every_view_and_macro_is_among_the_queries(index: Index) -> None:
    made = re.findall(r"^CREATE OR REPLACE (?:VIEW|MACRO) ([^ (]+)", script(index), re.MULTILINE)
    public = {name for name in made if not name.startswith("hubdelta.")}
    assert public == {
        name
        for name in public
        if any(f"{name}(" in query or f"FROM {name}" in query for query in QUERIES)
    }


def test_the_script_and_the_pages_name_the_oldest_duckdb(index: Index) -> None:
    assert f"DuckDB {OLDEST_DUCKDB} or newer" in script(index)
    named = [re.findall(r"DuckDB \(?([\d.]+)", text_of(page)) for page in PAGES]
    assert set(chain(*named)) == {OLDEST_DUCKDB}


@pytest.mark.slow
def test_a_long_chain_is_one_domain(fill: Callable[..., Index], ask: Ask) -> None:
    order = np.random.default_rng(0).permutation(500)
    index = fill(*(adapter(f"a/{name:03}", 0.36 * i) for i, name in enumerate(order)))
    question = "SELECT DISTINCT domain, size FROM hubdelta.components('org/base', distance := {})"
    whole, split = ask(
        write_script(index), [question.format(d) for d in (apart(0.36), apart(0.36) - 1e-6)]
    )
    assert whole == [{"domain": 1, "size": 500}]
    assert len(split) == 500


@pytest.mark.slow
def test_an_index_without_rows_works(index: Index, ask: Ask) -> None:
    queries = [query for query in QUERIES if "duckdb" not in query and "DESCRIBE" not in query]
    answers = ask(write_script(index), queries)
    assert [rows for rows in answers if rows] == [[{"s": None}]]


PLACES = ["it's", 'say "x"', "é ü 日本", "a[b]*c?d", "-- x; y", "$(x) %s {y}", "back\\slash's"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_any_place_can_hold_an_index(tmp_path: Path, ask: Ask, name: str) -> None:
    index = index_at(tmp_path / name)
    (rows,) = ask(write_script(index), ["SELECT base FROM adapters"])
    assert rows == [{"base": "/x/[y]*"}]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_in_any_place_our_connection_reads_it_too(tmp_path: Path, name: str) -> None:
    with connect(index_at(tmp_path / name)) as queries:
        assert queries.run("SELECT base FROM adapters").to_pylist() == [{"base": "/x/[y]*"}]


def index_at(place: Path) -> Index:
    """An index with one row in some place."""
    index = Index.create(place / "index")
    index.write([catalog_row(base="/x/[y]*")], base="/x/[y]*")
    return index


def test_a_moved_index_is_found_through_the_variable(
    fill: Callable[..., Index], tmp_path: Path, ask: Ask
) -> None:
    index = fill(adapter("a/one", 0))
    write_script(index)
    moved = index.root.rename(tmp_path / "new place's [1]")
    place = str(moved).replace("'", "''")
    (rows,) = ask(
        moved / "hubdelta.sql",
        ["SELECT adapter FROM adapters"],
        before=f"SET VARIABLE hubdelta_index = '{place}'",
    )
    assert rows == [{"adapter": "a/one"}]


def test_new_rows_are_seen_without_a_new_script(
    index: Index, fill: Callable[..., Index], ask: Ask
) -> None:
    script = write_script(index)
    fill(adapter("a/one", 0))
    (rows,) = ask(script, ["SELECT count(*) AS n FROM vectors"])
    assert rows == [{"n": 1}]


def test_writing_it_again_replaces_it_whole(index: Index) -> None:
    assert write_script(index) == index.root / "hubdelta.sql"
    before = write_script(index).read_text("utf-8")
    assert write_script(index).read_text("utf-8") == before
    assert not list(index.root.glob("*.tmp"))


def test_a_place_that_cannot_be_written_is_one_clear_line(index: Index) -> None:
    (index.root / "hubdelta.sql").mkdir()
    with pytest.raises(IndexWriteError, match=r"cannot write .*hubdelta\.sql"):
        write_script(index)
