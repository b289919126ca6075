"""How a crawl or an index run ended, in a few lines for a person."""

from hubdelta.crawler.crawl_summary import CrawlSummary
from hubdelta.indexer.pipeline.plan import BEYOND_LIMIT, FULL_FINETUNE
from hubdelta.jobs.index_summary import IndexSummary
from hubdelta.schemas.words import counted
from hubdelta.terminal.screen import Screen

_SKIPPED = {
    FULL_FINETUNE: (
        "full finetune, without --relation finetune",
        "full finetunes, without --relation finetune",
    ),
    BEYOND_LIMIT: ("beyond --limit", "beyond --limit"),
}
"""One and several of what an option of the command line leaves alone."""


def show_crawl(summary: CrawlSummary, screen: Screen) -> None:
    """Show how a crawl ended."""
    screen.line(f"{summary.base}: crawled in {summary.seconds:.1f} s")
    screen.line(f"  crawled    {_listed(summary)}")
    if summary.vanished:
        screen.line(f"  vanished   {summary.vanished:,}")
    if summary.mirrors:
        screen.line(f"  mirrors    {summary.mirrors:,}, whose adapters are taken for the base's")
    if summary.unreadable:
        screen.line(f"  left out   {counted(summary.unreadable, 'entry', 'entries')} of no use")
    if summary.incomplete:
        screen.line(
            f"  broken off {', '.join(summary.incomplete)}: the next crawl walks "
            f"{'it' if len(summary.incomplete) == 1 else 'them'} again"
        )


def show_index_run(summary: IndexSummary, screen: Screen) -> None:
    """Show how an index run ended."""
    screen.line(
        f"{summary.base} at {summary.base_revision[:12]}: {summary.outcome} "
        f"{'in' if summary.outcome == 'done' else 'after'} {summary.seconds:.1f} s"
    )
    if summary.crawl:
        screen.line(f"  crawled   {_listed(summary.crawl)}")
    rate = f" ({summary.adapters_per_second:.2f} adapters/s after the crawl)"
    screen.line(f"  embedded  {summary.embedded:,}" + (rate if summary.embedded else ""))
    if summary.kept:
        what = "new commit left" if summary.kept == 1 else "new commits left"
        screen.line(f"  kept      {summary.kept:,}, whose {what} config and weights as they were")
    written = summary.embedded + summary.kept
    if summary.fetched_bytes:
        screen.line(
            f"  fetched   {summary.fetched_bytes / 1e6:,.1f} MB, "
            f"{summary.needed_bytes / 1e6:,.1f} MB of it for these vectors, by "
            f"{counted(summary.resolves, 'file resolve')}"
            + (f", {summary.resolves / written:.1f} an adapter" if written else "")
        )
    for title, counts in (("skipped", summary.skipped), ("failed", summary.failed)):
        why = ", ".join(
            counted(n, *_SKIPPED.get(reason, (reason, reason)))
            for reason, n in counts.most_common()
        )
        screen.line(f"  {title:<9} {counts.total():,}" + (f" ({why})" if why else ""))
    if summary.busy:
        longest = sorted(summary.busy.items(), key=lambda stage: -stage[1])
        screen.line("  busy      " + ", ".join(f"{name} {s:.1f} s" for name, s in longest))
    if summary.failed:
        screen.line("`hubdelta status` says what to do about the failed ones")


def _listed(summary: CrawlSummary) -> str:
    return (
        f"{summary.listed:,} listed: {summary.new:,} new, {summary.changed:,} changed "
        f"({counted(summary.requests, 'request')})"
    )
