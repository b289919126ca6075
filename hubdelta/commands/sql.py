"""`hubdelta sql`: the index in DuckDB SQL."""

import sys
from typing import Annotated, Final

import typer

from hubdelta.commands.options import IndexFolder
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.sql.vocabulary import listing
from hubdelta.terminal.output import QueryOutput

HELP: Final = f"""\
Run a QUERY, or open a prompt; from a pipe, the query is read from it.

Several statements, with semicolons between them, are answered one after the other.

On a terminal numbers are rounded; into a pipe, columns are separated by tabs and values whole.

{listing()}

A query cannot write, nor read anything but the index, unless --unsafe is given.
"""


EXAMPLES: Final = """\
hubdelta sql "FROM neighbors('some-org/some-adapter', k := 5)"
hubdelta sql --format csv "FROM domains('meta-llama/Llama-3.1-8B')" > domains.csv
hubdelta sql < report.sql"""


def command(
    *,
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="Statements of SQL; - reads them from a pipe."),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe",
            help="Allow queries to write, to read other files, and to load extensions.",
        ),
    ] = False,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: QueryOutput,
) -> None:
    """Answer a query or several, or open a prompt."""
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect

    with connect(Index.open(index_path), unsafe=unsafe) as queries:
        if query is None and sys.stdin.isatty():
            from hubdelta.terminal.prompt import run_prompt

            run_prompt(queries, output)
            return
        text = sys.stdin.read() if query in (None, "-") else query
        output.tables(queries.run_all(text))
