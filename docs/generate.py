"""Write the generated pages: docs/commands.md from each command's help, docs/sql.md from DuckDB.

python docs/generate.py            writes them
python docs/generate.py --check    exits with 1 if one is out of date
"""

import os
import re
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from pkgutil import iter_modules
from tempfile import TemporaryDirectory

WIDTH = 100
# Libraries read these when they are imported, so they stand before the imports of hubdelta.
os.environ |= {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "HUBDELTA_INDEX"):
    os.environ.pop(name, None)

from hubdelta import commands  # noqa: E402 (the environment is set first)
from hubdelta.cli import run  # noqa: E402
from hubdelta.schemas.index import Index  # noqa: E402
from hubdelta.sql.connection import Queries, connect  # noqa: E402
from hubdelta.sql.vocabulary import MACROS, VIEWS, Macro, View  # noqa: E402

DOCS = Path(__file__).parent

_COMMANDS = """\
# Commands

Every command, as `--help` prints it. The [quick start](quick-start.md) shows the usual ones at
work, and [Operating it nightly](operating.md) explains what a run does.

"""

_SQL = """\
# SQL reference

The views and macros of an index, as `hubdelta sql`, `hubdelta.open_index().sql` and plain DuckDB
see them. The [cookbook](cookbook.md) has queries to start from. Wherever a macro takes a base,
`NULL` stands for every base. Distance is cosine distance, 1 - cos, from 0 to 2.

"""


def help_text(*arguments: str) -> str | None:
    """What `hubdelta ARGUMENTS --help` prints; None where there is no such command."""
    printed = StringIO()
    with redirect_stdout(printed):
        code = run([*arguments, "--help"])
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    return "\n".join(lines).strip("\n") if code == 0 else None


def command_reference() -> str:
    """The page of commands, in the order of the program's own help."""
    overview = help_text() or ""
    modules = (module.name.replace("_", "-") for module in iter_modules(commands.__path__))
    listed = {name: re.search(rf"^\W*{name} ", overview, re.MULTILINE) for name in modules}
    places = {name: match.start() for name, match in listed.items() if match}
    sections = [("hubdelta", overview)]
    for name in sorted(places, key=places.__getitem__):
        sections.append((f"hubdelta {name}", help_text(name) or ""))
    return _COMMANDS + "\n".join(
        f"## {title}\n\n```text\n{text}\n```\n" for title, text in sections
    )


def sql_reference() -> str:
    """The page of views and macros, from an empty index."""
    with TemporaryDirectory() as folder, connect(Index.create(Path(folder) / "index")) as queries:
        macros = [_macro(queries, macro) for macro in MACROS]
        views = [_view(queries, view) for view in VIEWS]
    return _SQL + "\n".join(["## Macros\n", *macros, "## Views\n", *views])


def _view(queries: Queries, view: View) -> str:
    columns = queries.database.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns()"
        " WHERE table_name = ? AND schema_name = 'main' AND database_name = current_database()"
        " ORDER BY column_index",
        [view.name],
    ).fetchall()
    rows = [f"| `{name}` | `{kind}` | {_cell(text)} |" for name, kind, text in columns]
    table = "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])
    return f"### {view.name}\n\n{_sentence(view.about)}\n\n{table}\n"


def _macro(queries: Queries, macro: Macro) -> str:
    answer = "Gives one number."
    if macro.columns:
        arguments = ", ".join(["NULL"] * len(macro.required))
        described = queries.database.execute(f"DESCRIBE FROM {macro.quoted}({arguments})")
        columns = (f"`{name}` ({kind})" for name, kind, *_ in described.fetchall())
        answer = f"Columns: {', '.join(columns)}."
    return f"### {macro.name}\n\n`{macro.signature}`\n\n{_sentence(macro.about)}\n\n{answer}\n"


def _sentence(text: str | None) -> str:
    return f"{text}." if text else ""


def _cell(text: str | None) -> str:
    return (text or "").replace("|", r"\|")


PAGES = {"commands.md": command_reference, "sql.md": sql_reference}


def main() -> int:
    """Write the pages, or name those that are out of date."""
    stale = 0
    for page, write in PAGES.items():
        path, text = DOCS / page, write()
        if path.exists() and path.read_text("utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"docs/{page} is out of date: run `make docs`\n")
            stale = 1
        else:
            path.write_text(text, "utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main())
