"""The list of views and macros says what DuckDB says of them, over the cache and over Parquet."""

import re
from collections.abc import Callable

import pytest

from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.script import cache_definitions, script
from hubdelta.sql.vocabulary import MACROS, VIEWS, Macro


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


def test_views_and_macros_are_those_that_duckdb_has(
    index: Index, over_parquet: Callable[[Index], Queries]
) -> None:
    with connect(index) as queries:
        found = views(queries), macros(queries)
    parquet = over_parquet(index)
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
def test_a_macro_is_defined_with_the_defaults_that_the_list_has(index: Index, macro: Macro) -> None:
    for text in (script(index), cache_definitions([])):
        heads = re.findall(rf"^CREATE OR REPLACE MACRO ({macro.quoted}\(.*?\)) AS\b", text, re.M)
        assert heads == [macro.signature]


@pytest.mark.parametrize(
    "macro", [macro for macro in MACROS if macro.columns], ids=lambda macro: macro.name
)
def test_an_answer_has_the_columns_that_the_list_has(
    index: Index, over_parquet: Callable[[Index], Queries], macro: Macro
) -> None:
    query = f"FROM {macro.quoted}({', '.join('NULL' for _ in macro.required)})"
    with connect(index) as queries:
        assert tuple(queries.run(query).column_names) == macro.columns
    assert tuple(over_parquet(index).run(query).column_names) == macro.columns
