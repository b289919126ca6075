"""`hubdelta label`: what you say adapters are for, and what that suggests for the others."""

from pathlib import Path
from typing import BinaryIO

import click

from hubdelta.commands.options import index_option, json_option, wait_option, writable_index
from hubdelta.schemas.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  hubdelta label labels.csv
  hubdelta label --suggest --min-confidence 0.3 --csv > suggested.csv"""
)
@click.argument("file", required=False, type=click.File("rb"), metavar="[FILE.csv]")
@click.option("--suggest", is_flag=True, help="Suggest labels for adapters that have none.")
@click.option("--base", metavar="ORG/NAME", help="Suggest for this base model only.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Leave out suggestions of less.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Suggest as CSV, to be edited and read again.")
@index_option
@wait_option
@json_option
def command(
    file: BinaryIO | None,
    suggest: bool,
    base: str | None,
    min_confidence: float,
    as_csv: bool,
    index_path: Path,
    wait: bool,
    as_json: bool,
) -> None:
    """Take the labels of FILE.csv (columns adapter,label; - for standard input), or suggest some.

    Labels name domains. An adapter is org/name[/subfolder], or a local folder; an empty label takes
    a label back. Nothing is stored unless every line is well formed; adapters that the index does
    not have are reported and left out.

    --suggest lets the five nearest labelled neighbours of each other adapter vote, the nearer ones
    with more weight. Confidence is the winner's share of the votes times how near its nearest is.
    """
    if (file is None) != suggest:
        raise UsageError("either name a FILE.csv of labels, or ask for --suggest")
    if file is None:
        _suggest(
            index_path, base, min_confidence, "csv" if as_csv else "json" if as_json else "table"
        )
        return

    from hubdelta.labels import read_labels, set_labels
    from hubdelta.output import print_fields, print_json
    from hubdelta.schemas.index import Index

    Index.open(index_path)  # labels make no index
    labels = read_labels(file, file.name)
    with writable_index(index_path, wait=wait) as index:
        summary = set_labels(index, labels)
    if as_json:
        print_json(summary)
    else:
        print_fields(summary)


def _suggest(index_path: Path, base: str | None, min_confidence: float, output_format: str) -> None:
    from hubdelta.output import write_table
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect
    from hubdelta.sql.status import check_base

    with connect(Index.open(index_path)) as queries:
        if base is not None:
            check_base(queries, base)
        found = queries.run(
            "FROM suggestions(?) WHERE confidence >= ? ORDER BY confidence DESC, adapter, base",
            [base, min_confidence],
        )
    write_table(found, output_format)
