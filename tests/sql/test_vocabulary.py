"""The list of views and macros says what DuckDB says of them, over the cache and over Parquet."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from rows import catalog_row, vector_row
from sharing import connect_over_parquet, copy_of, opened

from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.read_only import _names, _nodes, _tree
from hubdelta.sql.script import cache_definitions, script
from hubdelta.sql.vocabulary import (
    MACROS,
    NEED_LINKAGE,
    TABLE_MACROS,
    VIEWS,
    Macro,
    listing,
)
from hubdelta.vectors import density


def views(queries: Queries) -> dict[str, str]:
    """The views with their comments."""
    rows = queries.run(
        "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main'"
        " AND NOT internal AND database_name = current_database()"
    ).to_pylist()
    return {row["view_name"]: row["comment"] for row in rows}


def macros(queries: Queries) -> dict[str, tuple[list[str], str, str]]:
    """The macros with their parameters, their kinds and their comments."""
    rows = queries.run(
        "SELECT function_name, parameters, function_type, comment FROM duckdb_functions()"
        " WHERE schema_name = 'main' AND NOT internal AND function_type LIKE '%macro'"
    ).to_pylist()
    return {
        row["function_name"]: (row["parameters"], row["function_type"], row["comment"])
        for row in rows
    }


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queries]:
    """A connection to the files of an index without rows."""
    index = Index.create(tmp_path_factory.mktemp("parquet") / "index")
    with connect_over_parquet(index) as queries:
        yield queries


def test_views_and_macros_are_those_that_duckdb_has(empty: Index, parquet: Queries) -> None:
    queries = opened.of(empty)
    found = views(queries), macros(queries)
    assert found == (views(parquet), macros(parquet))
    assert found[0] == {view.name: view.about for view in VIEWS}
    assert found[1] == {
        macro.name: (
            [*macro.required, *macro.optional],
            "table_macro" if macro.columns else "macro",
            macro.about,
        )
        for macro in MACROS
    }


@pytest.mark.parametrize("macro", MACROS, ids=lambda macro: macro.name)
def test_a_macro_is_defined_with_the_defaults_that_the_list_has(empty: Index, macro: Macro) -> None:
    for text in (script(empty), cache_definitions()):
        heads = re.findall(rf"^CREATE OR REPLACE MACRO ({macro.quoted}\(.*?\)) AS\b", text, re.M)
        assert heads == [macro.signature]


@pytest.mark.parametrize(
    "macro", [macro for macro in MACROS if macro.columns], ids=lambda macro: macro.name
)
def test_an_answer_has_the_columns_that_the_list_has(
    empty: Index, parquet: Queries, macro: Macro
) -> None:
    query = f"FROM {macro.quoted}({', '.join('NULL' for _ in macro.required)})"
    assert tuple(opened.of(empty).run(query).column_names) == macro.columns
    assert tuple(parquet.run(query).column_names) == macro.columns


def test_sql_calls_domains_linked_where_so_few_adapters_are_linked(empty: Index) -> None:
    found = opened.of(empty).run("SELECT hubdelta.few() AS few").to_pylist()
    assert found == [{"few": density.FEW}]


@pytest.fixture(scope="module")
def unlinked(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index whose cache has no linkage yet, to be read only."""
    index = Index.create(tmp_path_factory.mktemp("unlinked") / "index")
    index.write([catalog_row()], base="org/base")
    index.write([vector_row()], base="org/base")
    connect(index).close()
    return index


@pytest.fixture
def stale(unlinked: Index, tmp_path: Path) -> Iterator[Queries]:
    """A connection whose linkage is not up to date yet."""
    with connect(copy_of(unlinked, tmp_path / "index")) as queries:
        assert queries.run("FROM adapters").num_rows == 1
        assert not queries._opened.linked
        yield queries


@pytest.mark.slow
@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM Domains(NULL)",
        'FROM /* ( */ main . "PAIRS" (NULL)',
        "WITH x AS (FROM duplicates(NULL)) FROM x, adapters",
        "SELECT adapter, (SELECT count(*) FROM outliers(base)) AS n FROM adapters",
        "FROM adapters WHERE adapter IN (SELECT unnest(members) FROM domains(NULL))",
        "SELECT 1 UNION ALL SELECT domain FROM domain_terms(NULL)",
        "FROM hubdelta.linkage",
        'TABLE hubdelta . "linkage"',
        "SELECT count(*) FROM hubdelta.components(NULL)",
        "PIVOT domains(NULL) ON method IN ('linkage') USING count(*)",
        "DESCRIBE FROM domains(NULL)",
        "SUMMARIZE FROM pairs(NULL)",
        "-- why\nEXPLAIN ANALYZE FROM domains(NULL)",
    ],
)
def test_a_query_that_needs_the_linkage_has_it_brought_up_to_date(
    stale: Queries, query: str
) -> None:
    stale.run(query)
    assert stale._opened.linked


@pytest.mark.parametrize(
    "query",
    [
        "FROM neighbors('a/b')",
        "FROM suggestions(NULL)",
        "SELECT 'FROM domains(NULL)' AS pairs FROM adapters -- duplicates",
    ],
)
def test_other_queries_do_not_wait_for_it(unlinked: Index, query: str) -> None:
    queries = opened.of(unlinked)
    queries.run(query)
    assert not queries._opened.linked


def test_what_needs_the_linkage_is_what_leads_to_it_in_sql(empty: Index) -> None:
    queries = opened.of(empty)
    bodies = queries.run(
        "SELECT 'view' AS kind, view_name AS name,"
        " regexp_extract(sql, '^.*? AS (.*);$', 1, 's') AS body"
        " FROM duckdb_views() WHERE NOT internal"
        " UNION ALL SELECT 'rows', function_name, macro_definition FROM duckdb_functions()"
        " WHERE function_type = 'table_macro' AND NOT internal"
        " UNION ALL SELECT 'scalar', function_name, 'SELECT ' || macro_definition"
        " FROM duckdb_functions() WHERE function_type = 'macro' AND NOT internal"
    ).to_pylist()
    uses: dict[str, frozenset[str]] = defaultdict(frozenset)
    for row in bodies:
        uses[row["name"]] |= _names(_nodes(_tree(queries.database, row["body"])))
    leads = {"linkage"}
    while more := {name for name, used in uses.items() if used & leads} - leads:
        leads |= more
    reachable = {row["name"] for row in bodies if row["kind"] != "rows"} | TABLE_MACROS
    assert leads & reachable == NEED_LINKAGE


def test_help_lists_every_view_and_macro() -> None:
    text = listing()
    for one in (*(view.name for view in VIEWS), *(macro.signature for macro in MACROS)):
        assert one in text
