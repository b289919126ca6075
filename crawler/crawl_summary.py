"""What a crawl tells on its way and at its end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CrawlProgress:
    """How far a crawl is.

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
    """What a crawl saw; counts are of adapters unless said otherwise.

    Attributes:
        base: its present name on the Hub.
        run_id: of the row in `runs`.
        listed: seen: new, changed and unchanged ones.
        new: not in the catalog before.
        changed: shown differently than before.
        vanished: gone from the Hub.
        unchanged: as the catalog has them.
        mirrors: known mirrors of the base.
        unreadable: entries of listings that were left out.
        requests: HTTP requests sent.
        seconds: wall time.
        incomplete: tags of listings that were begun and not walked to their end, because of the
            limit or because the Hub stopped answering; the next crawl walks them again.
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
