"""`hubdelta similar`: which adapters are like this one."""

from pathlib import Path

import click

from hubdelta.commands.options import AdapterType, answer_options, index_option
from hubdelta.schemas.defaults import NEIGHBORS
from hubdelta.schemas.keys import AdapterName

_SHOWN = ["adapter", "distance", "signal", "downloads", "license", "datasets"]


@click.command(
    epilog="""\b
Example:
  hubdelta similar some-org/some-adapter -k 5"""
)
@click.argument("adapter", type=AdapterType())
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=NEIGHBORS, show_default=True, help="How many."
)
@index_option
@answer_options
def command(adapter: AdapterName, k: int, index_path: Path, as_json: bool) -> None:
    """List the adapters whose vectors are nearest to an ADAPTER's, nearest first.

    ADAPTER is org/name[/subfolder][@revision], its URL, or a local folder that was embedded.
    """
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.answers import similar
    from hubdelta.terminal.output import print_json, write_table

    with connect(Index.open(index_path)) as queries:
        found = similar(queries, str(adapter), k)
    if as_json:
        print_json(found)
    else:
        write_table(
            found.select(_SHOWN),
            "table",
            counts="adapter",
            optional=["datasets", "license", "downloads", "signal"],
            empty=f"no other adapter of the base of {adapter} has a vector to compare",
        )
