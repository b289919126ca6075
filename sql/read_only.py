"""What a read-only connection runs: one query that only reads the views, or its EXPLAIN.

DuckDB's own restrictions (file access limited to the index, no configuration, a read-only
transaction) leave gaps: since 2.0, `WITH w AS (COPY … TO …) SELECT` counts as a SELECT and may
overwrite a readable file, and table functions such as arrow_scan(1, 2, 3) follow any address. So
each statement's syntax tree, as DuckDB parses it, is checked as well.
"""

import json
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import duckdb

from hubdelta.schemas.errors import QueryError, ReadOnlyError
from hubdelta.sql.vocabulary import TABLE_MACROS, VIEWS, quoted

_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_ROW_MAKERS = {
    "range",
    "generate_series",
    "unnest",
    "repeat",
    "repeat_row",
    "json_each",
    "json_tree",
}
_CATALOG_FUNCTIONS = {
    *("duckdb_columns", "duckdb_constraints", "duckdb_databases", "duckdb_functions"),
    *("duckdb_keywords", "duckdb_schemas", "duckdb_settings", "duckdb_tables", "duckdb_types"),
    *("duckdb_views", "pragma_database_list", "pragma_show", "pragma_table_info"),
    *("pragma_version", "show_tables"),
}
_TABLE_FUNCTIONS = TABLE_MACROS | _ROW_MAKERS | _CATALOG_FUNCTIONS

_EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b(\s+analyze\b)?(\s*\(\s*(?:analyze|format)\b[^()]*\))?",
    re.IGNORECASE | re.DOTALL,
)

_BARE_BETWEEN = re.compile(r"(?:\bFROM|\bJOIN|,)\s*between\s*\(", re.IGNORECASE)


def parser_hint(sql: str) -> str:
    """What may be wrong with a query that DuckDB cannot parse, or ""."""
    if _BARE_BETWEEN.search(sql):
        return '; BETWEEN is an SQL keyword, so quote the macro: "between"(a, b)'
    return ""


_MISSING_COLUMN = re.compile(r'column "(\w+)" (?:was )?not found', re.IGNORECASE)


def binder_hint(sql: str, message: str) -> str:
    """What may be wrong with a query that names an unknown column, or ""."""
    missing = _MISSING_COLUMN.search(message)
    if missing and re.search(rf"[(,]\s*{missing[1]}\s*=[^=]", sql, re.IGNORECASE):
        return f"; set a macro's parameter with := instead of =, as in {missing[1]} := ..."
    return ""


_MISSING_TABLE = re.compile(r"Table with name (\S+) does not exist!.*")


def catalog_message(message: str) -> str:
    """A replacement for DuckDB's message about an unknown name, which suggests internal tables."""
    missing = _MISSING_TABLE.search(message)
    if not missing:
        return message
    views = [view.name for view in VIEWS]
    (near,) = get_close_matches(missing[1], views, n=1) or [""]
    offered = f"did you mean {near}?" if near else f"the views are {', '.join(views)}"
    return f"there is no table or view {missing[1]}: {offered}"


def statements(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """The statements of a text, in order; a text that is rejected as a whole is not split.

    Raises:
        duckdb.Error: DuckDB cannot parse it.
    """
    return [one.query for one in connection.extract_statements(sql)] if "\0" not in sql else [sql]


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
    """Check that a statement can do nothing but read the index.

    Args:
        connection: parses the statement; runs nothing on data.
        sql: the statement, with parameters if it has any.

    Returns:
        The names of the tables, views, functions and macros that it uses, in lower case.

    Raises:
        QueryError: it could do more, it is not one statement, or it does not parse.
        duckdb.Error: DuckDB cannot parse it.
    """
    if "\0" in sql:
        raise QueryError("the query contains a NUL character")
    statements = connection.extract_statements(sql)
    if not statements:
        raise QueryError("the query is empty")
    if len(statements) > 1:
        raise ReadOnlyError("one statement at a time")
    statement = statements[0]
    query = statement.query
    kind = _kind(statement)
    if kind == "EXPLAIN":
        prefix = _EXPLAIN.match(query)
        query = query[prefix.end() :] if prefix else query
        inner = connection.extract_statements(query)
        kind = _kind(inner[0]) if len(inner) == 1 else "EXPLAIN"
    if kind == "MULTI":
        raise ReadOnlyError("PIVOT needs its values named here: PIVOT … ON column IN (…)")
    if kind != "SELECT":
        raise ReadOnlyError(f"a read-only connection does not run {kind} statements")
    nodes = list(_nodes(_tree(connection, query)))
    for node in nodes:
        _check_node(connection, node)
    return _names(nodes)


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # DuckDB's client has no name for the newest kinds
        return statement.query.split(maxsplit=1)[0].upper()


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    rows = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise QueryError("the query is nested too deeply") from None
    if tree["error"]:
        raise ReadOnlyError(f"the query cannot be checked: {tree['error_message']}")
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    branches = [tree]
    while branches:
        branch = branches.pop()
        if isinstance(branch, dict):
            yield branch
            branches.extend(branch.values())
        elif isinstance(branch, list):
            branches.extend(branch)


def _names(nodes: Iterable[dict[str, Any]]) -> frozenset[str]:
    """The names in a tree's nodes other than columns, in lower case."""
    return frozenset(
        str(node[kind]).lower()
        for node in nodes
        for kind in ("table_name", "function_name")
        if node.get(kind)
    )


def _check_node(connection: duckdb.DuckDBPyConnection, node: dict[str, Any]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        verb = kind.removesuffix("_NODE").removesuffix("_QUERY")
        raise ReadOnlyError(f"a read-only connection does not run {verb} statements")
    if kind == "TABLE_FUNCTION":
        name = node["function"].get("function_name", "")
        if name.lower() not in _TABLE_FUNCTIONS:
            likely = get_close_matches(name.lower(), _TABLE_FUNCTIONS, n=1, cutoff=0.75)
            if likely and name.lower() not in _known(connection):
                raise QueryError(f"there is no {name}(…): did you mean {quoted(likely[0])}(…)?")
            raise ReadOnlyError(f"a read-only connection does not offer {name}(…)")


def _known(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The table functions that DuckDB and its extensions have."""
    rows = connection.execute(
        "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type LIKE '%table%'"
    ).fetchall()
    return {name for (name,) in rows}
