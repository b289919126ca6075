"""Progress and summary of a crawl."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CrawlProgress:
    """How far a crawl has come.

    Attributes:
        listing: tag whose listing is being walked.
        listed: adapters seen so far.
        requests: HTTP requests of this crawl so far.
    """

    listing: str
    listed: int
    requests: int


@dataclass(frozen=True)
class CrawlSummary:
    """What a crawl saw; counts are of adapters unless noted.

    Attributes:
        base: its current name on the Hub.
        run_id: of the row in `runs`.
        listed: seen: new, changed and unchanged.
        new: not in the catalog before.
        changed: different from the catalog.
        vanished: gone from the Hub.
        unchanged: as in the catalog.
        mirrors: known mirrors of the base.
        unreadable: entries of listings that were skipped.
        requests: HTTP requests sent.
        seconds: wall time.
        incomplete: tags of listings that were started but not finished, because of the limit or
            because the Hub stopped answering; the next crawl walks them again.
    """

    base: str
    run_id: str
    listed: int
    new: int
    changed: int
    vanished: int
    unchanged: int
    mirrors: int
    unreadable: int
    requests: int
    seconds: float
    incomplete: tuple[str, ...] = ()
