"""`hubdelta export`: vectors, metadata and the map as one file for other programs."""

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from hubdelta.commands.options import IndexFolder, OneBase, refuse_unused
from hubdelta.schemas.errors import UsageError
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import Output

EXAMPLES: Final = """\
hubdelta export --format npz --out vectors.npz
hubdelta export --format parquet --base meta-llama/Llama-3.1-8B --out llama.parquet
hubdelta export --format embedding-atlas --out atlas.parquet
hubdelta export --format paper --out embeddings.npz"""


def command(
    *,
    context: typer.Context,
    output_format: Annotated[
        Literal["parquet", "npz", "embedding-atlas", "paper"],
        typer.Option("--format", help="What to write."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="The file to write; - is standard output."),
    ],
    base: OneBase = None,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: Output,
) -> None:
    """Write the vectors of a base's adapters, what is known of each, and the map, as one file.

    It has a row for each adapter whose newest vector ranks, all of one recipe.

    parquet: adapter, revision, base, recipe_id, x, y, domain, what `adapters` says of it, and
    vector FLOAT[d]; in the order in which they were embedded.

    npz: vectors [n, d] float32, xy [n, 2], and the texts adapters, revisions, bases and recipe_ids,
    each [n]; numpy.load reads it without pickle.

    embedding-atlas: the columns of parquet, with projection_x, projection_y and neighbors {ids,
    distances} in place of x, y and vector; open it with `embedding-atlas FILE --x projection_x --y
    projection_y --neighbors neighbors`.

    paper: an npz with the keys of the paper's release, embeddings [n, d], model_names, base_model
    and probe_info; and beside it its results_summary.json, whose silhouette_score is that of the
    labels that `hubdelta label` stored, or null.

    x and y are those of `hubdelta explore`, domains those of `hubdelta domains`.
    """
    from hubdelta.explorer.exports import WRITERS, Export
    from hubdelta.jobs.kept_map import opened_map
    from hubdelta.schemas.files import STDOUT, check_output, opened_output, shown_output
    from hubdelta.schemas.index import Index
    from hubdelta.schemas.words import counted

    if out == STDOUT:
        refuse_unused(context, "with --out -, which writes the file there", "as_json")
    if output_format == "embedding-atlas" and out != STDOUT and out.suffix.lower() != ".parquet":
        raise UsageError(
            f"embedding-atlas needs a file name that ends in .parquet, as {out.name}.parquet"
        )
    if output_format == "paper" and out == STDOUT:
        raise UsageError("--format paper writes two files: name one with --out")
    index = Index.open(index_path)
    check_output(out)
    if output_format == "paper":
        from hubdelta.jobs.paper_export import export_paper

        summary = out.with_name("results_summary.json")
        check_output(summary)
        rows = export_paper(index, base, out, summary)
        sentence = f"{out} and {summary}: {counted(rows, 'adapter')}"
        paths = {"path": out.absolute(), "summary": summary.absolute()}
        output.answer(
            paths | {"format": output_format, "rows": rows}, lambda screen: screen.line(sentence)
        )
        return
    with opened_map(index, base) as found:
        with opened_output(out) as file:
            WRITERS[output_format](Export(found.pool, found.placement, found.domains), file)
        rows = len(found.pool)
    sentence = f"{shown_output(out)}: {counted(rows, 'adapter')}"
    if out == STDOUT:
        typer.echo(sentence, err=True)
        return
    output.answer(
        {"path": out.absolute(), "format": output_format, "rows": rows},
        lambda screen: screen.line(sentence),
    )
