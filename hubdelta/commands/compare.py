"""`hubdelta compare`: two adapters side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubdelta.commands.options import AdapterType, index_option, json_option
from hubdelta.schemas.keys import AdapterName

if TYPE_CHECKING:
    from hubdelta.sql.answers import Comparison


@click.command(
    epilog="""\b
Example:
  hubdelta compare some-org/some-adapter other-org/other-adapter"""
)
@click.argument("a", type=AdapterType())
@click.argument("b", type=AdapterType())
@index_option
@json_option
def command(a: AdapterName, b: AdapterName, index_path: Path, as_json: bool) -> None:
    """Show two adapters side by side: how far apart, near to whom, and what is known of each.

    A and B are org/name[/subfolder][@revision], or local folders that were embedded. On a terminal,
    properties that differ are bold.
    """
    from hubdelta.output import print_json
    from hubdelta.schemas.index import Index
    from hubdelta.sql.answers import compare
    from hubdelta.sql.connection import connect

    with connect(Index.open(index_path)) as queries:
        answer = compare(queries, str(a), str(b))
    if as_json:
        print_json(answer)
    else:
        _print(answer)


def _print(answer: "Comparison") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from hubdelta.output import console, print_table
    from hubdelta.schemas.errors import without_controls

    out = console()
    if answer.distance is None:
        out.print(Text(without_controls(f"cannot be compared: {answer.obstacle}")))
    else:
        out.print(
            Text(
                f"distance {answer.distance:.4g}, cosine similarity {answer.similarity:.4g}, "
                f"angle {answer.angle:.1f}°"
            )
        )
    near = f"{len(answer.shared)} of the 10 nearest adapters in common"
    if len(answer.shared):
        print_table(answer.shared, caption=near)
    elif answer.distance is not None:
        out.print(Text(near, style="dim"))
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for title in ("property", answer.a, answer.b):
        table.add_column(Text(without_controls(title)), overflow="fold")
    for row in answer.properties.to_pylist():
        cells = [row["a"], row["b"]]
        if any(cells):
            style = "bold" if cells[0] != cells[1] else ""
            shown = (Text(without_controls(cell or ""), style=style) for cell in cells)
            table.add_row(row["property"], *shown)
    out.print(table)
