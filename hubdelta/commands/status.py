"""`hubdelta status`: what is known, embedded, pending and failed."""

from pathlib import Path

import click

from hubdelta.commands.options import index_option, json_option


@click.command(
    epilog="""\b
Example:
  hubdelta status --json"""
)
@click.option("--base", metavar="ORG/NAME", help="Only this base model.")
@index_option
@json_option
def command(base: str | None, index_path: Path, as_json: bool) -> None:
    """Show what the index holds for each base, and how the last runs ended."""
    from hubdelta.output import print_json, print_status
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.status import status

    with connect(Index.open(index_path)) as queries:
        answer = status(queries, base)
    if as_json:
        print_json(answer)
    else:
        print_status(answer)
