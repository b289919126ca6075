"""What a read-only connection runs: one query that only reads the views, and its EXPLAIN.

DuckDB's own locks (no file access but the index's, no configuration, a read-only transaction)
leave gaps: from 2.0 on `WITH w AS (COPY … TO …) SELECT` counts as a SELECT and may overwrite a
file that may be read, and table functions such as arrow_scan(1, 2, 3) follow any address. So each
statement is also judged by its syntax tree, as DuckDB itself parses it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from hubdelta.schemas.errors import QueryError

_QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_OUR_MACROS = {
    *("neighbors", "within", "pairs", "duplicates", "domains", "vectors_of", "components"),
    *("domain_terms", "suggestions"),
    *("between", "outliers", "new_since", "compare", "shared_neighbors", "side_by_side", "sum_of"),
}
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
_TABLE_FUNCTIONS = _OUR_MACROS | _ROW_MAKERS | _CATALOG_FUNCTIONS

_EXPLAIN = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b(\s+analyze\b)?(\s*\(\s*(?:analyze|format)\b[^()]*\))?",
    re.IGNORECASE | re.DOTALL,
)

_HINT = "; --unsafe allows everything"


def check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let a statement pass that can do nothing but read the index.

    Args:
        connection: parses the statement; nothing is run on its data.
        sql: the statement, with parameters if it has any.

    Raises:
        QueryError: it could do more, it is not one statement, or it does not parse.
        duckdb.Error: DuckDB cannot parse it.
    """
    if "\0" in sql:
        raise QueryError("the query holds a NUL character")
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise QueryError("one statement at a time" + _HINT if statements else "the query is empty")
    statement = statements[0]
    query = statement.query
    kind = statement.type.name
    if kind == "EXPLAIN":
        prefix = _EXPLAIN.match(query)
        query = query[prefix.end() :] if prefix else query
        inner = connection.extract_statements(query)
        kind = inner[0].type.name if len(inner) == 1 else "EXPLAIN"
    if kind == "MULTI":
        raise QueryError("PIVOT needs its values named here: PIVOT … ON column IN (…)" + _HINT)
    if kind != "SELECT":
        raise QueryError(f"a read-only connection does not run {kind} statements" + _HINT)
    for node in _nodes(_tree(connection, query)):
        _check_node(node)


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    rows = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise QueryError("the query is nested too deeply") from None
    if tree["error"]:
        raise QueryError(f"the query cannot be checked: {tree['error_message']}" + _HINT)
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


def _check_node(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERY_NODES:
        verb = kind.removesuffix("_NODE").removesuffix("_QUERY")
        raise QueryError(f"a read-only connection does not run {verb} statements" + _HINT)
    if kind == "TABLE_FUNCTION":
        name = node["function"].get("function_name", "")
        if name.lower() not in _TABLE_FUNCTIONS:
            raise QueryError(f"a read-only connection does not offer {name}(…)" + _HINT)
