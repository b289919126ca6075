"""How an index run ended: for its row in the index, and for the user."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from hubdelta.crawler.crawl_summary import CrawlSummary
from hubdelta.schemas.rows import RunRow
from hubdelta.settings import versions


@dataclass
class IndexSummary:
    """How an index run ended.

    Attributes:
        base: the base, under its current name.
        base_revision: 40-hex commit of the base.
        run_id: the run's id in every row it made.
        outcome: done, interrupted or failed.
        embedded: vectors made and written.
        kept: vectors kept for a new commit, which changed none of the files they were made from.
        skipped: adapters skipped, by reason.
        failed: adapters that gave no vector, by reason.
        missing: the adapters named by hand that were not found.
        seconds: wall time of the whole run.
        adapters_per_second: embedded adapters per second of embedding, including loading of the
            base and all downloads.
        fetched_bytes: received from the Hub, without the base's files.
        needed_bytes: of these, what the vectors depend on, with headers and configs.
        resolves: file resolves for the adapters, which the Hub limits by account.
        busy: seconds in which each stage was busy.
        waited: seconds in which it was idle while adapters were pending.
        crawl: how the crawl ended, if there was one.
    """

    base: str
    base_revision: str
    run_id: str
    outcome: str = "failed"
    embedded: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0
    adapters_per_second: float = 0.0
    fetched_bytes: int = 0
    needed_bytes: int = 0
    resolves: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    crawl: CrawlSummary | None = None


def run_row(summary: IndexSummary, started_at: datetime, requests: int) -> RunRow:
    """The row of a run.

    Args:
        summary: how it ended.
        started_at: when it began.
        requests: HTTP requests sent for it.
    """
    counts = {
        "embedded": summary.embedded,
        "kept": summary.kept,
        "skipped": summary.skipped.total(),
        "failed": summary.failed.total(),
    }
    return RunRow(
        run_id=summary.run_id,
        kind="index",
        base=summary.base,
        base_revision=summary.base_revision,
        outcome=summary.outcome,
        started_at=started_at,
        seconds=summary.seconds,
        requests=requests,
        resolves=summary.resolves,
        fetched_bytes=summary.fetched_bytes,
        needed_bytes=summary.needed_bytes,
        busy=summary.busy,
        waited=summary.waited,
        counts=counts | {f"failed:{reason}": n for reason, n in summary.failed.items()},
        marks={},
        versions=versions(),
    )
