"""`hubdelta label`: what you say adapters are for, and what that suggests for the others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hubdelta.commands.options import IndexFolder, SomeBase, Wait, refuse_unused, writable_index
from hubdelta.schemas.errors import UsageError
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import CsvOutput

if TYPE_CHECKING:
    import pyarrow as pa

    from hubdelta.jobs.labels import LabelSummary

EXAMPLES: Final = """\
hubdelta label labels.csv
hubdelta label --suggest --min-confidence 0.3 --csv > suggested.csv"""


def command(
    *,
    context: typer.Context,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Argument(metavar="FILE.csv", help="Labels; - is standard input."),
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Suggest labels for adapters that have none.")
    ] = False,
    base: SomeBase = None,
    min_confidence: Annotated[
        float,
        typer.Option(
            "--min-confidence",
            min=0,
            max=1,
            metavar="C",
            help="Leave out suggestions of less confidence than this.",
        ),
    ] = 0.0,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: CsvOutput,
    wait: Wait = False,
) -> int:
    """Take the labels of FILE.csv (columns adapter,label; - for standard input), or suggest some.

    Labels name domains. An adapter is org/name[/subfolder], or a local folder; an empty label
    removes one. Nothing is stored unless every line is well formed; adapters that the index does
    not have are reported and left out, with exit code 3, or 1 if it has none of them. Labels that
    differ in case only are one, in the spelling of the last file, and there in the first one.

    --suggest lets the five nearest labeled neighbors of each other adapter vote, the nearer ones
    with more weight. Confidence is the winner's share of the votes times how near its nearest is.
    """
    if (file is None) != suggest:
        raise UsageError("either name a FILE.csv of labels, or ask for --suggest")
    if file is None:
        refuse_unused(context, "with --suggest", "wait")
        _suggest(index_path, base, min_confidence, output)
        return 0
    refuse_unused(context, "without --suggest", "as_csv", "base", "min_confidence")

    from hubdelta.exit_codes import EXIT_FAILED, EXIT_SOME_FAILED
    from hubdelta.jobs.labels import read_labels, set_labels
    from hubdelta.schemas.index import Index

    Index.open(index_path)  # labels make no index
    labels = read_labels(file, file.name)
    with writable_index(index_path, wait=wait) as index:
        summary = set_labels(index, labels)
    output.answer(summary, lambda screen: screen.line(_sentence(summary)))
    if len(summary.unknown) == len(labels):
        return EXIT_FAILED
    return EXIT_SOME_FAILED if summary.unknown else 0


def _sentence(summary: "LabelSummary") -> str:
    """As in: 2 labeled, 1 changed, 3 as before; 1 not in the index."""
    parts = [
        (summary.set, "labeled"),
        (summary.changed, "changed"),
        (summary.removed, "removed"),
        (summary.unchanged, "as before"),
    ]
    said = ", ".join(f"{count:,} {what}" for count, what in parts if count) or "nothing labeled"
    return said + (f"; {len(summary.unknown):,} not in the index" if summary.unknown else "")


def _suggest(index_path: Path, base: str | None, min_confidence: float, output: CsvOutput) -> None:
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.questions.answers import suggestions

    with connect(Index.open(index_path)) as queries:
        found = suggestions(queries, base, min_confidence=min_confidence)
        labeled = len(queries.run("SELECT adapter FROM labels LIMIT 1"))
    output.table(
        found,
        people=_shown(found),
        counts="suggestion",
        optional=["base", "votes", "nearest"],
        empty="no suggestion: no unlabeled adapter is near enough to a labeled one"
        if labeled
        else "no suggestion: no adapter has a label yet, `hubdelta label FILE.csv` takes some",
    )


def _shown(found: "pa.Table") -> "pa.Table":
    """Without the base, where there is but one."""
    return found if len(set(found["base"].to_pylist())) > 1 else found.drop_columns("base")
