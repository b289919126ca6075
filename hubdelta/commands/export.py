"""`hubdelta export`: vectors, metadata and the map as one file for other programs."""

from pathlib import Path

import click

from hubdelta.commands.options import OfIndexBase, base_option, index_option, json_option
from hubdelta.schemas.errors import UsageError

_FORMATS = ("parquet", "npz", "embedding-atlas")


@click.command(
    epilog="""\b
Examples:
  hubdelta export --format npz --out vectors.npz
  hubdelta export --format parquet --base meta-llama/Llama-3.1-8B --out llama.parquet
  hubdelta export --format embedding-atlas --out atlas.parquet"""
)
@click.option(
    "--format", "output_format", type=click.Choice(_FORMATS), required=True, help="What to write."
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file to write; - is stdout."
)
@base_option(kind=OfIndexBase(), help="The base model; needed where there are several.")
@index_option
@json_option
def command(
    output_format: str, out: Path, base: str | None, index_path: Path, as_json: bool
) -> None:
    """Write the vectors of a base's adapters, what is known of each, and the map, as one file.

    It has a row for each adapter whose newest vector ranks, all of one recipe.

    \b
    parquet          adapter, revision, base, recipe_id, x, y, domain, what `adapters` says of it,
                     vector FLOAT[d]; in the order in which they were embedded
    npz              vectors [n, d] float32, xy [n, 2], and texts [n]: adapters, revisions, bases,
                     recipe_ids; numpy.load reads it without pickle
    embedding-atlas  the columns of parquet, with projection_x, projection_y and neighbors {ids,
                     distances} in place of x, y and vector; to be opened with
                     embedding-atlas FILE --x projection_x --y projection_y --neighbors neighbors

    x and y are those of `hubdelta explore`, domains those of `hubdelta domains`.
    """  # noqa: D301 (click reads \b as "leave these lines alone")
    from hubdelta.explorer.exports import WRITERS, Export
    from hubdelta.jobs.kept_map import opened_map
    from hubdelta.schemas.files import STDOUT, check_output, output, shown_output
    from hubdelta.schemas.index import Index
    from hubdelta.schemas.words import counted
    from hubdelta.terminal.output import print_json

    if out == STDOUT and as_json:
        raise UsageError("--json and --out - both write to standard output: leave one out")
    if output_format == "embedding-atlas" and out != STDOUT and out.suffix.lower() != ".parquet":
        raise UsageError(
            f"embedding-atlas needs a file name that ends in .parquet, as {out.name}.parquet"
        )
    index = Index.open(index_path)
    check_output(out)
    with opened_map(index, base) as found:
        with output(out) as file:
            WRITERS[output_format](Export(found.pool, found.placement, found.domains), file)
        rows = len(found.pool)
    if as_json:
        print_json({"path": out.absolute(), "format": output_format, "rows": rows})
    else:
        click.echo(f"{shown_output(out)}: {counted(rows, 'adapter')}", err=out == STDOUT)
