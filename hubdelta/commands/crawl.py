"""`hubdelta crawl`: find what was finetuned from a base, without embedding it."""

from pathlib import Path

import click

from hubdelta.commands.options import (
    BaseType,
    base_option,
    index_option,
    json_option,
    relation_option,
    wait_option,
    writable_index,
)
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.kinds import LISTED


@click.command(
    epilog="""\b
Example:
  hubdelta crawl --base meta-llama/Llama-3.1-8B --limit 100"""
)
@base_option(kind=BaseType(), metavar="ORG/NAME", required=True, help="Base model.")
@relation_option(default=",".join(LISTED), help="Lineage to follow.")
@click.option("--full", is_flag=True, help="Walk everything, and mark what has vanished.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List at most N adapters.")
@index_option
@wait_option
@json_option
def command(
    base: AdapterName,
    relations: tuple[str, ...],
    full: bool,
    limit: int | None,
    index_path: Path,
    wait: bool,
    as_json: bool,
) -> None:
    """Find every model whose metadata points at a base, and what changed since the last crawl."""
    from hubdelta.crawler.crawl import crawl
    from hubdelta.jobs.derived import refresh_cache
    from hubdelta.jobs.targets import check_base
    from hubdelta.schemas.index import Index
    from hubdelta.settings import open_hub, versions
    from hubdelta.terminal.output import print_json
    from hubdelta.terminal.progress import show_progress
    from hubdelta.terminal.summaries import print_crawl_summary

    if base.is_local:
        raise UsageError("a base in a local folder has no listing to crawl")
    if base.revision:
        raise UsageError("a listing has no revision: leave out @REVISION")
    with open_hub() as hub:
        check_base(base, Index(index_path), hub)
        with writable_index(index_path, wait=wait) as index, show_progress() as display:
            summary = crawl(
                index,
                hub,
                base.repo_id,
                relations=relations,
                full=full,
                limit=limit,
                on_page=display.crawled,
                versions=versions(),
            )
            refresh_cache(index)
    if as_json:
        print_json(summary)
    else:
        print_crawl_summary(summary)
