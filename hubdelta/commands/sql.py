"""`hubdelta sql`: the index in DuckDB SQL."""

import sys
from itertools import islice
from pathlib import Path

import click

from hubdelta.commands.options import index_option, pager_option
from hubdelta.schemas.errors import UsageError
from hubdelta.sql.vocabulary import listing

_FORMATS = ("table", "json", "csv", "parquet")

_HELP = f"""\
Run a QUERY, or open a prompt; from a pipe, the query is read from it.

Several statements, with semicolons between them, are answered one after the other.

On a terminal numbers are rounded; into a pipe, columns are separated by tabs and values whole.

\b
{listing()}

A query cannot write, nor read anything but the index, unless --unsafe is given.
"""


@click.command(
    help=_HELP,
    epilog="""\b
Examples:
  hubdelta sql "FROM neighbors('some-org/some-adapter', k := 5)"
  hubdelta sql --format csv "FROM domains('meta-llama/Llama-3.1-8B')" > domains.csv
  hubdelta sql < report.sql""",
)
@click.argument("query", required=False)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(_FORMATS),
    help="How to write the answer.  [default: table]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--unsafe",
    is_flag=True,
    help="Allow queries to write, to read other files, and to load extensions.",
)
@index_option
@pager_option
def command(
    query: str | None, output_format: str | None, as_json: bool, unsafe: bool, index_path: Path
) -> None:
    """Answer a query or several, or open a prompt."""
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.terminal.output import write_table

    if as_json and output_format not in {None, "json"}:
        raise UsageError(f"--json or --format {output_format}: leave out one of the two")
    output_format = "json" if as_json else output_format or "table"
    with connect(Index.open(index_path), unsafe=unsafe) as queries:
        if query is None and sys.stdin.isatty():
            from hubdelta.terminal.prompt import run_prompt

            run_prompt(queries)
            return
        text = sys.stdin.read() if query in (None, "-") else query
        answers = queries.run_all(text)
        if output_format != "table":
            first, *others = islice(answers, 2)
            if others:
                raise UsageError(
                    f"--format {output_format} holds the answer of one statement: run several "
                    "one by one"
                )
            answers = iter([first])
        for found in answers:
            write_table(found, output_format)
