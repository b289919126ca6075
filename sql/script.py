"""The views and macros as SQL: for our connection, and as `<index>/hubdelta.sql` for any DuckDB."""

import re
from collections.abc import Iterator
from pathlib import Path

from hubdelta.schemas import defaults
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES
from hubdelta.sql.columns import COLUMNS
from hubdelta.sql.views import text_of
from hubdelta.sql.vocabulary import MACROS, VIEWS, literal

SCRIPT_NAME = "hubdelta.sql"
OLDEST_DUCKDB = "1.1.2"
"""The oldest DuckDB that reads the script."""

_PARQUET = (
    *("parquet_sources.sql", "embedded.sql", "tables.sql", "present.sql"),
    *("parquet_views.sql", "terms.sql", "targets.sql", "parquet_search.sql"),
)
_CACHE = ("cache_sources.sql", "embedded.sql", "tables.sql", "targets.sql", "cache_search.sql")
_QUESTIONS = ("neighbors.sql", "groups.sql", "names.sql", "suggestions.sql", "questions.sql")

_DEFAULT = re.compile(r":= \$([A-Z_]+)")

_INTRODUCTION = f"""\
-- hubdelta's views and macros over the Parquet files of one index; rewritten by every run.
-- Needs DuckDB {OLDEST_DUCKDB} or newer: `.read` it in the shell, or execute it as one script.
-- If the index has moved or is mounted: SET VARIABLE hubdelta_index = '/its/new/place';
-- Then, for example: FROM adapters; FROM neighbors('org/name', k := 5); FROM domains(NULL);
"""


def parquet_definitions(*, bind: str, files: str) -> str:
    """The statements that define every view and macro over Parquet files.

    Running them again replaces them. Binding a view opens every file that it names, so the
    definitions are bound to few files, and the macro that names a table's files is given its final
    definition last.

    Args:
        bind: SQL expression of `name`, a table: at least one of its files, as read_parquet's
            argument.
        files: the same for all of its files.
    """
    name_files = "CREATE OR REPLACE MACRO hubdelta.files(name) AS\n    {};\n"
    return "\n".join(
        [
            "CREATE SCHEMA IF NOT EXISTS hubdelta;",
            name_files.format(bind),
            *_texts(*_PARQUET, *_QUESTIONS),
            *_comments(),
            name_files.format(files),
        ]
    )


def cache_definitions() -> str:
    """The statements that define every view and macro over the cache, attached as `cache`.

    They need the functions of search/function.py.
    """
    return "\n".join(
        [
            "CREATE SCHEMA IF NOT EXISTS hubdelta;",
            *_texts(*_CACHE, *_QUESTIONS),
            *_comments(),
        ]
    )


def script(index: Index) -> str:
    """A script that defines the views and macros in any DuckDB, over the Parquet files alone.

    The index's absolute path is the default; the variable `hubdelta_index` overrides it, even after
    the script has run.
    """
    moved = "getvariable('hubdelta_index')"
    default = str(index.root.absolute())
    if "\\" not in default:
        place = f"coalesce({moved}, {_literal(default)})"
        return _script(bind=_pattern(place, "schema-v*"), files=_pattern(place, "*"))
    # DuckDB reads a backslash as a slash, but only in patterns, so files are named one by one.
    files = {row_type.table: index.files(row_type) for row_type in TABLES}
    fields = (
        f"'{table}': [{', '.join(_literal(str(path.absolute())) for path in paths)}]"
        for table, paths in files.items()
    )
    listed = f"struct_extract({{{', '.join(fields)}}}, name)"
    either = f"if({moved} IS NULL, {listed}, [{_pattern(moved, '*')}])"
    return _script(bind=either, files=either)


def _script(*, bind: str, files: str) -> str:
    return f"{_INTRODUCTION}\n" + parquet_definitions(bind=bind, files=files)


def _pattern(place: str, stem: str) -> str:
    """SQL for a pattern of the files of the table `name` of an index that is at a place."""
    root = rf"regexp_replace({place}, '([*?\[])', '[\1]', 'g')"
    return f"{root}\n    || '/' || name || '/**/{stem}.parquet'"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def write_script(index: Index) -> Path:
    """Write `<index>/hubdelta.sql` atomically, unless it already has this text.

    Raises:
        IndexWriteError: no space, no permission.
    """
    path, text = index.root / SCRIPT_NAME, script(index)
    if path.is_file() and path.read_bytes() == text.encode():
        return path
    return index.write_text(SCRIPT_NAME, text)


def _texts(*parts: str) -> list[str]:
    """The texts of files of views/, with the defaults of the macros' parameters filled in."""
    return [
        _DEFAULT.sub(lambda named: f":= {literal(getattr(defaults, named[1]))}", text_of(part))
        for part in parts
    ]


def _comments() -> Iterator[str]:
    """The statements that describe the views, their columns and the macros, a paragraph each."""
    for view in VIEWS:
        lines = [f"COMMENT ON VIEW {view.name} IS {_literal(view.about)};"]
        for column, meaning in COLUMNS[view.name].items():
            lines.append(f"COMMENT ON COLUMN {view.name}.{column} IS {_literal(meaning)};")
        yield "\n".join(lines) + "\n"
    yield "\n".join(
        f"COMMENT ON MACRO {'TABLE ' if macro.columns else ''}{macro.quoted}"
        f" IS {_literal(macro.about)};"
        for macro in MACROS
    )
