"""`hubdelta domains`: which domains there are."""

from pathlib import Path

import click

from hubdelta.commands.options import index_option, json_option


@click.command(
    epilog="""\b
Example:
  hubdelta domains --distance 0.3"""
)
@click.option("--base", metavar="ORG/NAME", help="Only this base model.")
@click.option(
    "--distance",
    type=click.FloatRange(0, 2),
    default=0.25,
    show_default=True,
    help="Two adapters no further apart than this belong together.",
)
@index_option
@json_option
def command(base: str | None, distance: float, index_path: Path, as_json: bool) -> None:
    """List the domains of a base's adapters: groups connected by steps of a small distance."""
    from hubdelta.output import write_table
    from hubdelta.schemas.index import Index
    from hubdelta.sql.answers import domains
    from hubdelta.sql.connection import connect

    with connect(Index.open(index_path)) as queries:
        write_table(domains(queries, base, distance), "json" if as_json else "table")
