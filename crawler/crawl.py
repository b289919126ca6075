"""One crawl: walk a base's listings and record what is new, changed or gone."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import httpx

from hubdelta.crawler.adapter_files import adapters_in
from hubdelta.crawler.base import find_base
from hubdelta.crawler.catalog import (
    COPIES,
    Sighting,
    adapter_rows,
    known_answers,
    mirror_rows,
    reclassified,
)
from hubdelta.crawler.crawl_summary import CrawlProgress, CrawlSummary
from hubdelta.crawler.discovery import (
    ALL_ADAPTERS,
    Walk,
    changed_marks,
    gone,
    lineage_listings,
    read_marks,
)
from hubdelta.crawler.entry import Entry
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import hub_error, is_outage
from hubdelta.crawler.ledger import Ledger
from hubdelta.crawler.lineage import BaseFamily, Conclusion, conclude
from hubdelta.crawler.mirrors import Mirrors, Verdict
from hubdelta.crawler.resolution import DeclaredNames
from hubdelta.schemas.errors import HubError
from hubdelta.schemas.index import Index, new_run_id
from hubdelta.schemas.kinds import LISTED, Kind, Relation
from hubdelta.schemas.rows import CatalogRow, RunRow

logger = logging.getLogger(__name__)


def crawl(
    index: Index,
    hub: Hub,
    base: str,
    *,
    relations: Sequence[str] = LISTED,
    full: bool = False,
    limit: int | None = None,
    on_page: Callable[[CrawlProgress], None] | None = None,
    versions: Mapping[str, str] | None = None,
) -> CrawlSummary:
    """Bring the catalog of a base up to date; the caller holds the index for writing.

    Each listing is walked down to its mark from the last crawl. Rows are written in batches, and
    the row in `runs` last, even if the crawl fails or is interrupted: what it has seen is kept, but
    only listings that were walked to the end move their marks. The listing of all PEFT adapters is
    long and adds little to the other listings, so it may break off without failing the crawl.

    Args:
        index: where to.
        hub: where from.
        base: the base model, `ORG/NAME`.
        relations: which kinds of descendants to crawl: adapter, finetune.
        full: walk everything, count downloads and likes as changes, and mark what has vanished.
        limit: stop after this many adapters; then nothing is marked as vanished.
        on_page: called after each request to a listing.
        versions: of hubdelta and its libraries, for the row in `runs`.

    Raises:
        HubError: offline, no network, a refused token, an unknown base, or a Hub that stops
            answering on the way down a listing of the base's own.
        NotABaseError: the base is an adapter, or no model.
        IndexWriteError: no space, no permission.
    """
    run = _Crawl(index, hub, base, relations, full, limit, on_page, versions or {})
    outcome = "failed"
    try:
        run.walk()
        outcome = "done"
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        run.end(outcome)
    return run.summary()


class _Crawl:
    """The state of one crawl."""

    def __init__(
        self,
        index: Index,
        hub: Hub,
        base: str,
        relations: Sequence[str],
        full: bool,
        limit: int | None,
        on_page: Callable[[CrawlProgress], None] | None,
        versions: Mapping[str, str],
    ) -> None:
        self._index, self._hub, self._base = index, hub, base
        self._relations, self._full, self._limit = relations, full, limit
        self._on_page, self._versions = on_page, versions
        self._began, self._clock = datetime.now(UTC), time.monotonic()
        self._run_id = new_run_id(self._began)
        self._requests_before, self._requests_reported = hub.requests, hub.requests
        self._resolves_before = hub.resolves
        self._bytes_before = hub.bytes_received
        self._ledger = self._open_ledger()
        self._family = BaseFamily(base)
        self._to_follow: deque[tuple[str, bool]] = deque()
        self._walks: list[Walk] = []
        self._followed: set[str] = set()
        self._seen: dict[str, tuple[str, datetime | None]] = {}

    def walk(self) -> None:
        """Find the base, walk every listing, and in a full crawl mark what has vanished."""
        asked_for, base = self._base, find_base(self._hub, self._base)
        self._base = base.repo_id
        if self._base != asked_for:
            self._ledger = self._open_ledger()
        known = self._ledger.present()
        self._family = BaseFamily(self._base, [asked_for])
        self._mirrors = Mirrors(self._hub, self._family, lambda: base, known)
        if not self._full:  # a full crawl walks all of them
            self._reclassify(known)
            known = self._ledger.present()
        answers = {} if self._full else known_answers(known, self._family)
        self._resolve = DeclaredNames(
            self._hub, self._family, self._mirrors, answers, self._take_mirror
        )
        # Rows lost to damaged files can be anywhere in the listings.
        everything = self._full or self._index.has_damage(CatalogRow, base=self._base)
        marks = {} if everything else read_marks(self._index, self._base, has_rows=bool(known))
        # A mirror with the base's own weights has quantized copies of its own. `_take_mirror`
        # appends the mirrors that it finds.
        self._follow(self._base, with_copies=True)
        for row in known:
            if row.kind == Kind.MIRROR and self._family.mirror(row.repo_id):
                self._follow(row.repo_id, with_copies=row.relation != Relation.QUANTIZED)
        while self._to_follow:
            name, with_copies = self._to_follow.popleft()
            for tag in lineage_listings(name, self._relations, with_copies=with_copies):
                if not self._walk_listing(tag, marks.get(tag)):
                    return
        if self._walk_listing(ALL_ADAPTERS, marks.get(ALL_ADAPTERS)) and self._full:
            self._mark_vanished()

    def end(self, outcome: str) -> None:
        """Write the pending rows, then the crawl's own."""
        self._ledger.write()
        run = RunRow(
            run_id=self._run_id,
            kind="crawl",
            base=self._base,
            base_revision=None,
            outcome=outcome,
            started_at=self._began,
            seconds=time.monotonic() - self._clock,
            requests=self._hub.requests - self._requests_before,
            resolves=self._hub.resolves - self._resolves_before,
            fetched_bytes=self._hub.bytes_received - self._bytes_before,
            counts=self._ledger.counts,
            marks=dict(changed_marks(self._walks)),
            versions=dict(self._versions),
        )
        self._index.write([run], base=self._base)

    def summary(self) -> CrawlSummary:
        """What was seen."""
        counts = self._ledger.counts
        return CrawlSummary(
            base=self._base,
            run_id=self._run_id,
            **counts,
            unchanged=counts["listed"] - counts["new"] - counts["changed"],
            mirrors=len(self._family.mirrors),
            unreadable=sum(len(walk.unreadable) for walk in self._walks),
            requests=self._hub.requests - self._requests_before,
            seconds=time.monotonic() - self._clock,
            incomplete=tuple(dict.fromkeys(w.tag for w in self._walks if not w.complete)),
        )

    def _open_ledger(self) -> Ledger:
        return Ledger(self._index, self._base, self._run_id, popularity=self._full)

    def _walk_listing(self, tag: str, mark: datetime | None) -> bool:
        """Walk one listing; false if it was not walked to its end."""
        walk = Walk(self._hub, tag, mark, self._began)
        self._walks.append(walk)
        try:
            return self._take_all(walk)
        except HubError as error:
            # The Hub often times out deep in the listing of all adapters. The results of the base's
            # own listings are worth keeping without it.
            if tag != ALL_ADAPTERS or not is_outage(error.__cause__):
                raise
            logger.warning(
                "%s, while walking the listing of all adapters: adapters without a lineage tag of "
                "%s may be missing; the next crawl tries again",
                error,
                self._base,
            )
            return False

    def _take_all(self, walk: Walk) -> bool:
        """Record what a walk shows; false if it reached the limit."""
        for entry in walk:
            self._report(walk.tag)
            self._take(entry)
            if self._limit is not None and self._ledger.counts["listed"] >= self._limit:
                return False
        self._report(walk.tag)
        return True

    def _mark_vanished(self) -> None:
        """After a complete walk: what the catalog has but the walk did not see is gone."""
        # What changed during the walk moved to the top of its listing, above where the walk began.
        for walk in list(self._walks):
            if not self._walk_listing(walk.tag, walk.next_mark):
                return
        unreadable = {repo_id for walk in self._walks for repo_id in walk.unreadable}
        unseen = self._ledger.unseen(set(LISTED) - set(self._relations), unreadable)
        tags = {walk.tag for walk in self._walks}
        self._ledger.vanish(gone(self._hub, unseen, tags))

    def _take(self, entry: Entry) -> None:
        """Conclude what an entry is, and record it; if seen before, only if it changed since."""
        state = (entry.sha, entry.last_modified)
        if self._seen.get(entry.repo_id) == state:
            return
        self._seen[entry.repo_id] = state
        verdict = self._mirrors.judge(entry)
        if verdict is not None and verdict.is_mirror:
            self._take_mirror(entry, verdict)
            return
        try:
            conclusion = conclude(entry, self._family, self._resolve)
        except (HfHubHTTPError, httpx.HTTPError) as error:
            raise hub_error(error, self._hub.endpoint) from error
        if conclusion is not None and self._is_wanted(entry, conclusion):
            if verdict is not None:
                conclusion = conclusion._replace(evidence=verdict.evidence)
            undeclared = replace(entry, declared_base=None)
            in_subfolders = conclude(undeclared, self._family, self._resolve) or conclusion
            self._ledger.record(adapter_rows(entry, conclusion, in_subfolders, self._sighting()))

    def _take_mirror(self, entry: Entry, verdict: Verdict) -> None:
        """Record a mirror, and follow its listings if it is new."""
        self._follow(entry.repo_id, with_copies=entry.relation != Relation.QUANTIZED)
        self._ledger.record(mirror_rows(entry, verdict.evidence, self._sighting()))

    def _follow(self, name: str, *, with_copies: bool) -> None:
        if name not in self._followed:
            self._followed.add(name)
            self._to_follow.append((name, with_copies))

    def _reclassify(self, known: Sequence[CatalogRow]) -> None:
        """Amend what earlier crawls concluded without seeing a mirror's content."""
        for row, verdict in self._mirrors.unverified():
            self._ledger.amend(reclassified(row, verdict.is_mirror, known, self._sighting()))

    def _sighting(self) -> Sighting:
        return Sighting(self._base, self._run_id, datetime.now(UTC))

    def _is_wanted(self, entry: Entry, conclusion: Conclusion) -> bool:
        if entry.relation in COPIES and not adapters_in(entry.files):
            return False
        # The relation is to the base that is tagged, which need not be the one concluded.
        related = conclusion.evidence in {"tag", "mirror"} and entry.relation in LISTED
        return not related or entry.relation in self._relations

    def _report(self, tag: str) -> None:
        if self._on_page is not None and self._requests_reported != self._hub.requests:
            self._requests_reported = self._hub.requests
            requests = self._hub.requests - self._requests_before
            self._on_page(CrawlProgress(tag, self._ledger.counts["listed"], requests))
