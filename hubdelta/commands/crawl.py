"""`hubdelta crawl`: find what was finetuned from a base, without embedding it."""

from typing import Annotated, Final

from hubdelta.commands.options import (
    Full,
    IndexFolder,
    Limit,
    NewBase,
    Wait,
    relations_option,
    writable_index,
)
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.kinds import LISTED
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import Output

EXAMPLES: Final = "hubdelta crawl --base meta-llama/Llama-3.1-8B --limit 100"


def command(
    *,
    base: NewBase,
    relations: Annotated[list[str], relations_option("Relations to follow.", LISTED)],
    full: Full = False,
    limit: Limit = None,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: Output,
    wait: Wait = False,
) -> None:
    """Find every model whose metadata points at a base, and what changed since the last crawl."""
    from hubdelta.crawler.crawl import crawl
    from hubdelta.jobs.derived import refresh_cache
    from hubdelta.jobs.targets import check_base
    from hubdelta.schemas.index import Index
    from hubdelta.settings import open_hub, versions
    from hubdelta.terminal.progress import show_progress
    from hubdelta.terminal.summaries import show_crawl

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
                relations=tuple(relations),
                full=full,
                limit=limit,
                on_page=display.crawled,
                versions=versions(),
            )
            refresh_cache(index)
    output.answer(summary, lambda screen: show_crawl(summary, screen))
