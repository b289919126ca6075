"""`hubdelta index`: the whole nightly job."""

import logging
from pathlib import Path
from typing import Annotated, Final

import typer

from hubdelta.commands.options import (
    Full,
    IndexFolder,
    Limit,
    NewBase,
    Wait,
    parser,
    refuse_unused,
    relations_option,
    writable_index,
)
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.settings import RECIPE, IndexSettings
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName, folder_meant
from hubdelta.schemas.kinds import Kind, Relation
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.completion import complete_adapter
from hubdelta.terminal.output import Output

logger = logging.getLogger(__name__)

_KINDS: dict[str, str] = {Relation.ADAPTER: Kind.ADAPTER, Relation.FINETUNE: Kind.FULL}
"""What rows of the catalog a relation asks for."""

EXAMPLES: Final = """\
hubdelta index --base meta-llama/Llama-3.1-8B
hubdelta index --base ./my-base ./my-adapter ./my-other-adapter"""


def command(
    *,
    context: typer.Context,
    base: NewBase,
    settings: IndexSettings,
    adapters: Annotated[
        list[AdapterName] | None,
        typer.Argument(
            parser=parser(AdapterName.parse),
            metavar="ADAPTER",
            autocompletion=complete_adapter,
            help="Embed these alone: org/name[/subfolder][@revision], or a local folder as "
            "./FOLDER.",
        ),
    ] = None,
    from_file: Annotated[
        typer.FileText | None,
        typer.Option(
            "--from-file",
            encoding="utf-8",
            metavar="LIST",
            help="Adapters to embed, one a line; # begins a comment.",
        ),
    ] = None,
    no_crawl: Annotated[
        bool, typer.Option("--no-crawl", help="Embed what earlier crawls have found.")
    ] = False,
    full: Full = False,
    relations: Annotated[
        list[str],
        relations_option(
            "What to embed. finetune: full finetunes, streamed layer by layer.", [Relation.ADAPTER]
        ),
    ],
    limit: Limit = None,
    probes: Annotated[
        Path | None,
        typer.Option(
            "--probes",
            metavar="FILE",
            dir_okay=False,
            exists=True,
            show_default="the five of the paper",
            help="Prompts to compare hidden states for: a JSON list of strings, or JSON Lines.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry what failed before, due or not.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 3 if an adapter failed.")
    ] = False,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: Output,
    wait: Wait = False,
) -> int:
    """Crawl a base's family and embed what is new; or embed the adapters named.

    The base is org/name[@revision], or a local folder as ./FOLDER.
    """
    from hubdelta.settings import open_hub, require_extra

    require_extra("hubdelta index", "index")
    _refuse_unused(context, named=bool(adapters or from_file), no_crawl=no_crawl)

    from hubdelta.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SOME_FAILED
    from hubdelta.jobs.index_request import IndexRequest, check_request
    from hubdelta.jobs.index_run import run_index
    from hubdelta.schemas.index import Index
    from hubdelta.terminal.progress import show_progress
    from hubdelta.terminal.summaries import show_index_run

    names = (*(adapters or ()), *(_listed(from_file) if from_file else ()))
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
        probes=ProbeSet.from_file(probes) if probes else ALPACA_5,
    )
    with open_hub() as hub:
        check_request(request, settings, index=Index(index_path), hub=hub)
        with writable_index(index_path, wait=wait) as index, show_progress() as display:
            summary = run_index(request, index=index, hub=hub, settings=settings, display=display)
    output.answer(summary, lambda screen: show_index_run(summary, screen))
    if summary.outcome == "interrupted":
        return EXIT_INTERRUPTED
    if names and len(summary.missing) == len(names):
        return EXIT_FAILED
    return EXIT_SOME_FAILED if summary.missing or (strict and summary.failed) else 0


def _refuse_unused(context: typer.Context, *, named: bool, no_crawl: bool) -> None:
    if named:
        refuse_unused(context, "where adapters are named, since nothing is crawled", "full")
    if no_crawl:
        refuse_unused(context, "with --no-crawl", "full")


def _listed(lines: typer.FileText) -> tuple[AdapterName, ...]:
    try:
        texts = [line.partition("#")[0].strip() for line in lines]
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{lines.name} is not a list of adapters: {error}") from error
    return tuple(AdapterName.parse(text) for text in texts if text)
