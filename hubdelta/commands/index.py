"""`hubdelta index`: the whole nightly job."""

import logging
from pathlib import Path
from typing import TextIO

import click

from hubdelta.commands.options import (
    AdapterType,
    BaseType,
    base_option,
    index_option,
    json_option,
    refuse_unused,
    relation_option,
    wait_option,
    writable_index,
)
from hubdelta.indexer.settings import DEVICES, ENGINE_NAMES, GIGABYTE, PRECISIONS
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName, folder_meant
from hubdelta.schemas.kinds import Kind, Relation

logger = logging.getLogger(__name__)

_KINDS: dict[str, str] = {Relation.ADAPTER: Kind.ADAPTER, Relation.FINETUNE: Kind.FULL}
"""What rows of the catalog a relation asks for."""


@click.command(
    epilog="""\b
Examples:
  hubdelta index --base meta-llama/Llama-3.1-8B
  hubdelta index --base ./my-base ./my-adapter ./my-other-adapter"""
)
@click.argument("adapters", nargs=-1, type=AdapterType(), metavar="[ADAPTER]...")
@base_option(
    kind=BaseType(),
    metavar="ORG/NAME[@REVISION]",
    required=True,
    help="Base model, or a local folder as ./FOLDER.",
)
@click.option(
    "--from-file",
    type=click.File(encoding="utf-8"),
    metavar="LIST",
    help="Adapters to embed, one a line; # begins a comment.",
)
@click.option("--no-crawl", is_flag=True, help="Embed what earlier crawls have found.")
@click.option("--full", is_flag=True, help="Crawl everything, and mark what has vanished.")
@relation_option(
    default=Relation.ADAPTER,
    help="What to embed. finetune: full finetunes, streamed layer by layer.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Embed at most N adapters.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before, due or not.")
@click.option(
    "--engine",
    type=click.Choice(ENGINE_NAMES),
    default="stacked",
    show_default=True,
    help="What computes the activations of adapters; what it cannot do goes to reference.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Precision of the matrix products. auto: fp32 on a CPU; on a GPU the fastest that is "
    "precise enough.",
)
@click.option("--device", default="auto", show_default=True, help=f"What computes: {DEVICES}.")
@click.option(
    "--tensor-parallel",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="GPUs that share each layer of the base, with --engine vllm.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads of every library that computes.  [default: the number of cores]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Adapters embedded and written together, at most; a pass takes what fits in memory.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Downloads at once.",
)
@click.option(
    "--disk-budget",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="GB",
    help="Weights on disk and not yet embedded, at most; larger models are skipped.",
)
@click.option("--keep-downloads", is_flag=True, help="Keep the weights in INDEX/downloads.")
@click.option("--strict", is_flag=True, help="Exit with code 3 if an adapter failed.")
@index_option
@wait_option
@json_option
@click.pass_context
def command(
    context: click.Context,
    adapters: tuple[AdapterName, ...],
    base: AdapterName,
    from_file: TextIO | None,
    no_crawl: bool,
    full: bool,
    relations: tuple[str, ...],
    limit: int | None,
    retry_failed: bool,
    engine: str,
    precision: str,
    device: str,
    tensor_parallel: int,
    threads: int | None,
    batch_size: int,
    workers: int,
    disk_budget: float,
    keep_downloads: bool,
    strict: bool,
    index_path: Path,
    wait: bool,
    as_json: bool,
) -> int:
    """Crawl a base's family and embed what is new; or embed the adapters named.

    An ADAPTER is org/name[/subfolder][@revision], or a local folder as ./FOLDER.
    """
    from hubdelta.settings import open_hub, require_extra

    require_extra("hubdelta index", "index")
    _refuse_unused(context, named=bool(adapters or from_file), no_crawl=no_crawl)

    from hubdelta.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SOME_FAILED
    from hubdelta.indexer.settings import IndexSettings
    from hubdelta.jobs.index_run import IndexRequest, check_request, run_index
    from hubdelta.schemas.index import Index
    from hubdelta.terminal.output import print_json
    from hubdelta.terminal.progress import show_progress
    from hubdelta.terminal.summaries import print_index_summary

    names = adapters + (_listed(from_file) if from_file else ())
    for name in (base, *names):
        if not name.is_local and (question := folder_meant(str(name))):
            logger.warning("asking the Hub for %s; %s", name, question)
    if from_file and not names:
        raise UsageError(f"{from_file.name} names no adapter")
    request = IndexRequest(
        base=base,
        names=names,
        crawl=not no_crawl,
        full_crawl=full,
        kinds=tuple(_KINDS[part] for part in relations),
        limit=limit,
        retry_failed=retry_failed,
    )
    settings = IndexSettings(
        engine=engine,
        precision=precision,
        device=device,
        threads=threads,
        tensor_parallel=tensor_parallel,
        batch_size=batch_size,
        workers=workers,
        disk_budget=int(disk_budget * GIGABYTE),
        keep_downloads=keep_downloads,
    )
    with open_hub() as hub:
        check_request(request, settings, index=Index(index_path), hub=hub)
        with writable_index(index_path, wait=wait) as index, show_progress() as display:
            summary = run_index(request, index=index, hub=hub, settings=settings, display=display)
    if as_json:
        print_json(summary)
    else:
        print_index_summary(summary)
    if summary.outcome == "interrupted":
        return EXIT_INTERRUPTED
    if names and len(summary.missing) == len(names):
        return EXIT_FAILED
    return EXIT_SOME_FAILED if summary.missing or (strict and summary.failed) else 0


def _refuse_unused(context: click.Context, *, named: bool, no_crawl: bool) -> None:
    if named:
        refuse_unused(context, "where adapters are named, since nothing is crawled", "full")
    if no_crawl:
        refuse_unused(context, "with --no-crawl", "full")


def _listed(lines: TextIO) -> tuple[AdapterName, ...]:
    try:
        texts = [line.partition("#")[0].strip() for line in lines]
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{lines.name} is not a list of adapters: {error}") from error
    return tuple(AdapterName.parse(text) for text in texts if text)
