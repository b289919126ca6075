"""`<index>/hubdelta.sql`: the same answers in a plain DuckDB, the oldest and the installed one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry import adapter
from rows import catalog_row, failure_row, vector_row

from hubdelta.schemas.errors import IndexWriteError
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import connect
from hubdelta.sql.script import write_script

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
    "FROM neighbors('org/a-00', k := 5)",
    "FROM within('org/a-00', distance := 0.4)",
    "SELECT similarity('org/a-00', 'org/a-01') AS s",
    "FROM pairs('org/base') ORDER BY a, b",
    "FROM duplicates('org/base', distance := 0.05)",
    "FROM domains('org/base')",
    "FROM domains(NULL, distance := 0.1)",
    "DESCRIBE adapters",
    "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'adapters'",
]


@pytest.fixture
def varied(index: Index) -> Index:
    """Twenty adapters in 24 dimensions, a failed one, a zero one, and a second base."""
    rng = np.random.default_rng(3)
    listed, vectors = [], []
    for i in range(20):
        name = f"org/a-{i:02}"
        centre = np.eye(24, dtype=np.float32)[i % 4]
        delta = centre + rng.normal(size=24).astype(np.float32) * 0.15
        listed.append(catalog_row(repo_id=name, tags=[f"topic{i % 4}"], downloads=i))
        vectors.append(vector_row(repo_id=name, delta=delta))
    listed += [catalog_row(repo_id="org/failed"), catalog_row(repo_id="org/zero")]
    vectors.append(vector_row(repo_id="org/zero", delta=np.zeros(24, np.float32)))
    index.write(listed, base="org/base")
    index.write(vectors, base="org/base")
    index.write([failure_row(repo_id="org/failed")], base="org/base")
    index.write([catalog_row(base="/models/x y")], base="/models/x y")
    index.write([vector_row(base="/models/x y")], base="/models/x y")
    return index


def test_plain_duckdb_gives_the_answers_of_our_connection(varied: Index, ask: Ask) -> None:
    answers = ask(write_script(varied), QUERIES)
    with connect(varied) as queries:
        ours = [queries.run(query).to_pylist() for query in QUERIES]
    for query, theirs, own in zip(QUERIES, answers, ours, strict=True):
        assert theirs == json.loads(json.dumps(own, default=str)), query


def test_an_index_without_rows_works(index: Index, ask: Ask) -> None:
    queries = [query for query in QUERIES if "duckdb" not in query and "DESCRIBE" not in query]
    answers = ask(write_script(index), queries)
    assert [rows for rows in answers if rows] == [[{"s": None}]]


@pytest.mark.parametrize(
    "name", ["it's", 'say "x"', "é ü 日本", "a[b]*c?d", "-- x; y", "$(x) %s {y}", "back\\slash's"]
)
def test_any_place_can_hold_an_index(tmp_path: Path, ask: Ask, name: str) -> None:
    index = Index.create(tmp_path / name / "index")
    index.write([catalog_row(base="/x/[y]*")], base="/x/[y]*")
    (rows,) = ask(write_script(index), ["SELECT base FROM adapters"])
    assert rows == [{"base": "/x/[y]*"}]
    with connect(index) as queries:
        assert queries.run("SELECT base FROM adapters").to_pylist() == rows


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
