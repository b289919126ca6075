"""`hubdelta domains`: which domains there are."""

from pathlib import Path

import click

from hubdelta.commands.options import index_option, json_option

_SHOWN = ["domain", "name", "size", "central"]


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
@click.option(
    "--min-size",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Leave out domains of fewer adapters.",
)
@index_option
@json_option
def command(
    base: str | None, distance: float, min_size: int, index_path: Path, as_json: bool
) -> None:
    """List the domains of a base's adapters: groups connected by steps of a small distance.

    `central` is the member most like the others; --json has all members.
    """
    import pyarrow.compute as pc

    from hubdelta.output import print_table, write_table
    from hubdelta.schemas.index import Index
    from hubdelta.sql.answers import domains
    from hubdelta.sql.connection import connect

    with connect(Index.open(index_path)) as queries:
        found = domains(queries, base, distance)
    shown = found.filter(pc.greater_equal(found["size"], min_size))
    if as_json:
        write_table(shown, "json")
    else:
        left_out = pc.sum(found["size"]).as_py() or 0
        left_out -= pc.sum(shown["size"]).as_py() or 0
        bases = set(found["base"].to_pylist())
        print_table(
            shown.select([*_SHOWN, "base"] if len(bases) > 1 else _SHOWN),
            caption=f"{len(shown)} domains; {left_out} adapters in domains of fewer than "
            f"{min_size} are not shown",
        )
