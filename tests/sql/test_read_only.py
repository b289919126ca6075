"""Attacks: what a query of a read-only connection must not be able to do."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from geometry import adapter, write_pairs

from hubdelta.schemas.errors import QueryError, ReadOnlyError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import VectorRow
from hubdelta.sql.connection import Queries, connect

ATTACKS = [
    # writes
    "COPY (SELECT 1) TO '{new}'",
    "COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "WITH w AS (COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)) SELECT * FROM w",
    "FROM (WITH w AS (COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)) SELECT * FROM w)",
    "SELECT (WITH w AS (COPY (SELECT 1) TO '{new}') SELECT count(*) FROM w)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "explain/**/analyze/**/COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "-- EXPLAIN\nEXPLAIN ANALYZE COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{own}') SELECT * FROM w",
    "EXPLAIN COPY (SELECT 1) TO '{new}'",
    "DESCRIBE WITH w AS (COPY (SELECT 1) TO '{own}') SELECT * FROM w",
    "SELECT 1; COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "SELECT 1;;COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false);",
    "SELECT 1\0; COPY (SELECT 1) TO '{own}' (USE_TMP_FILE false)",
    "PREPARE p AS COPY (SELECT 1) TO '{own}'",
    "EXECUTE p",
    "COPY (PIVOT (SELECT 1 AS a) ON a USING count(*)) TO '{new}'",
    "EXPORT DATABASE '{folder}'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW adapters AS SELECT 1",
    "CREATE OR REPLACE MACRO hubdelta.files(name) AS '{secret}'",
    "CREATE SECRET s (TYPE s3)",
    "DROP VIEW adapters",
    "ALTER VIEW adapters RENAME TO x",
    "COMMENT ON VIEW adapters IS 'x'",
    "INSERT INTO adapters VALUES (1)",
    "UPDATE adapters SET base = 'x'",
    "DELETE FROM adapters",
    "WITH w AS (DELETE FROM adapters RETURNING *) SELECT * FROM w",
    "SELECT 1 INTO t",
    # other files and places
    "FROM '{secret}'",
    'FROM "{secret}"',
    "FROM '{folder}/*.csv'",
    "FROM read_csv('{secret}')",
    "FROM READ_TEXT('{secret}')",
    "FROM read_blob('{secret}')",
    "FROM read_json('{secret}')",
    "FROM read_parquet('{secret}')",
    "FROM system.main.read_text('{secret}')",
    "FROM adapters, LATERAL (FROM read_text('{secret}'))",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "FROM glob('{folder}/*')",
    "FROM sniff_csv('{secret}')",
    "FROM parquet_metadata('{secret}')",
    "FROM query('FROM read_text(''{secret}'')')",
    "FROM query_table('{secret}')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{secret}'')'))",
    "SUMMARIZE '{secret}'",
    "DESCRIBE '{secret}'",
    "DESCRIBE FROM read_text('{secret}')",
    "SHOW TABLES FROM '{secret}'",
    "FROM '.tmp/x.csv'",
    "FROM '/proc/self/environ'",
    "FROM 'https://example.com/x.csv'",
    "FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "ATTACH '{secret}' AS x",
    "ATTACH ':memory:' AS x",
    "IMPORT DATABASE '{folder}'",
    "FROM stolen",
    # the machinery
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL '{secret}'",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE hubdelta_files = MAP {{}}",
    "PRAGMA threads = 1",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "CALL enable_logging(storage := 'file', storage_path := '{folder}')",
    "FROM enable_logging(storage := 'file', storage_path := '{folder}')",
    "FROM enable_profiling(save_location := '{new}')",
    "FROM duckdb_secrets(redact := false)",
    "FROM which_secret('s3://x', 's3')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM pandas_scan(1)",
    "FROM python_map_function(1)",
    "FROM Arrow_Scan_Dumb(1, 2, 3)",
    "FROM checkpoint()",
    "USE memory",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PIVOT adapters ON status USING count(*)",
    "",
    " ; ",
    "-- nothing",
    "SELECT '\ud800'",
    "SELECT " + "[" * 400 + "]" * 400,
]

QUERIES = [
    "SELECT 1",
    "VALUES (1), (2)",
    "FROM adapters",
    "TABLE adapters",
    "WITH x AS (FROM adapters) SELECT count(*) FROM x UNION ALL SELECT 2;",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) FROM r",
    "SELECT unnest(tags) FROM adapters",
    "FROM range(3), generate_series(1, 2)",
    "FROM neighbors('a/one'), LATERAL (SELECT 1)",
    "DESCRIBE adapters",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE SELECT norm FROM vectors",
    "EXPLAIN SELECT 1",
    "/* why */ EXPLAIN ANALYZE FROM adapters",
    "EXPLAIN (FORMAT json) SELECT 1",
    "PIVOT adapters ON status IN ('embedded', 'failed') USING count(*) GROUP BY base",
    "FROM duckdb_columns()",
    "SELECT date_trunc('day', embedded_at), now() - embedded_at, embedded_at::VARCHAR FROM vectors",
    "SELECT adapter, row_number() OVER (ORDER BY downloads) FROM adapters QUALIFY true",
    "FROM adapters WHERE adapter IN (SELECT adapter FROM failures)",
]

stolen = pa.table({"secret": [1]})


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queries]:
    """A connection that all attack: whatever one of them changes, the next one would notice."""
    place = tmp_path_factory.mktemp("attacked")
    index = Index.create(place / "index")
    (place / "files").mkdir()
    (place / "files" / "secret.csv").write_text("a\n1\n")
    (place / "files" / ".tmp").mkdir()
    (place / "files" / ".tmp" / "x.csv").write_text("a\n1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place / "files")
        with connect(write_pairs(index, adapter("a/one", 0), adapter("a/two", 10))) as queries:
            yield queries


@pytest.fixture
def own(attacked: Queries) -> Iterator[Queries]:
    """A connection of the test's own to the same index."""
    with connect(attacked.index) as queries:
        yield queries


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_in_one_line_and_changes_nothing(
    attacked: Queries, attack: str
) -> None:
    place = attacked.index.root.parent
    folder = place / "files"
    own = next(p for p in attacked.index.files(VectorRow) if not p.name.startswith("schema"))
    before = _contents(place)
    with pytest.raises(QueryError) as caught:
        attacked.run(
            attack.format(folder=folder, secret=folder / "secret.csv", new=folder / "n", own=own)
        )
    assert "\n" not in str(caught.value)
    assert _contents(place) == before
    assert len(attacked.run("FROM vectors")) == 2


@pytest.mark.parametrize("query", QUERIES)
def test_an_honest_query_runs(attacked: Queries, query: str) -> None:
    attacked.run(query)


def test_a_transaction_is_read_only_even_for_what_the_check_lets_pass(own: Queries) -> None:
    own.database.execute("CREATE TABLE mine AS SELECT 1 AS a")
    with own._transaction(), pytest.raises(Exception, match="read-only"):
        own.database.execute("INSERT INTO mine VALUES (2)")
    with own._transaction(), pytest.raises(Exception, match="disabled by configuration"):
        own.database.execute("FROM read_text('/etc/hostname')")


def test_unsafe_allows_what_is_refused_otherwise(
    fill: Callable[..., Index], tmp_path: Path
) -> None:
    target = tmp_path / "out.csv"
    with connect(fill(adapter("a/one", 0)), unsafe=True) as queries:
        queries.run(f"SET threads = 1; COPY (SELECT adapter FROM adapters) TO '{target}'")
        assert queries.run(f"FROM '{target}'").to_pylist() == [{"adapter": "a/one"}]
        with pytest.raises(QueryError, match="nope"):
            queries.run("FROM nope")


def test_an_error_is_one_line_that_helps(attacked: Queries) -> None:
    with pytest.raises(
        QueryError, match=r"^there is no table or view adaptrs: did you mean adapters\?$"
    ):
        attacked.run("SELECT *\nFROM adaptrs")
    with pytest.raises(QueryError, match=r'"statu".*Candidate bindings: "status"'):
        attacked.run("SELECT statu FROM adapters")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("FROM neigbors('a/one')", r"there is no neigbors\(…\): did you mean neighbors\(…\)\?"),
        ("FROM Domain(NULL)", r"did you mean domains\(…\)\?"),
        ("FROM betwen('a/one', 'a/two')", r'did you mean "between"\(…\)\?'),
        ("FROM read_csv('x')", "does not offer read_csv"),
        ("FROM between('a/one', 'a/two')", r'quote the macro: "between"\(a, b\)'),
        ("FROM adapters, Between ('a/one', 'a/two')", r'quote the macro: "between"\(a, b\)'),
    ],
)
def test_what_was_perhaps_meant_is_named(attacked: Queries, query: str, says: str) -> None:
    with pytest.raises(QueryError, match=says) as caught:
        attacked.run(query)
    assert isinstance(caught.value, ReadOnlyError) == ("not offer" in says)


def test_parameters_are_bound_by_place_and_by_name(attacked: Queries) -> None:
    assert attacked.run("SELECT ? AS x", ["'; DROP"]).to_pylist() == [{"x": "'; DROP"}]
    assert attacked.run("SELECT $x AS x", {"x": 2}).to_pylist() == [{"x": 2}]
    with pytest.raises(QueryError):
        attacked.run("SELECT ?")


def test_times_are_utc(attacked: Queries) -> None:
    table = attacked.run("SELECT embedded_at FROM vectors LIMIT 1")
    assert table.schema.field(0).type == pa.timestamp("us", tz="UTC")


def test_ctrl_c_stops_a_query_and_the_next_one_runs(own: Queries) -> None:
    import_module("polars")  # its Ctrl-C handler would resume a wait without a timeout
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        own.run(
            "SELECT count(*) FROM range(9999999) a, range(999999) b WHERE a.range * b.range % 7 = 3"
        )
    assert time.monotonic() - started < 10
    assert own.run("SELECT 1 AS x").to_pylist() == [{"x": 1}]


@pytest.mark.slow
def test_ctrl_c_at_any_moment_breaks_nothing(own: Queries) -> None:
    asked = ["FROM neighbors('a/me')", "SELECT count(*) FROM range(3000000) AS a WHERE a.range > 9"]
    rng, pressed = random.Random(0), 0
    for _ in range(60):
        timer = threading.Timer(rng.uniform(0.001, 0.03), os.kill, [os.getpid(), signal.SIGINT])
        try:
            timer.start()
            for query in itertools.cycle(asked):
                own.run(query)
                own.neighbors("a/me", 3)
        except KeyboardInterrupt:
            pressed += 1
        assert own.run("SELECT 1 AS x").to_pylist() == [{"x": 1}]
    assert pressed == 60


def test_a_closed_connection_says_so(attacked: Queries) -> None:
    queries = connect(attacked.index)
    queries.close()
    for ask in (lambda: queries.run("SELECT 1"), lambda: queries.neighbors("a/me", 3)):
        with pytest.raises(QueryError, match="is closed"):
            ask()


def test_several_statements_are_answered_in_turn_and_none_runs_beside_one_that_may_not(
    attacked: Queries,
) -> None:
    found = [rows.to_pylist() for rows in attacked.run_all("SELECT 1 AS n; SELECT ';' AS n;")]
    assert found == [[{"n": 1}], [{"n": ";"}]]
    with pytest.raises(QueryError, match="does not run COPY"):
        next(attacked.run_all("SELECT 1; COPY (SELECT 1) TO 'x'"))
    with pytest.raises(QueryError, match="empty"):
        next(attacked.run_all(";"))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("UPDATE EXTENSIONS", "does not run UPDATE"),
        ("FROM neighbors('a/b', k = 5)", "as in k := "),
        ("FROM domains(NULL, distance = 0.2)", "as in distance := "),
        ("FROM adapter", r"no table or view adapter: did you mean adapters\?"),
        ("FROM nothing", "no table or view nothing: the views are adapters, .*spaces$"),
    ],
)
def test_a_frequent_mistake_is_named(attacked: Queries, query: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        attacked.run(query)
