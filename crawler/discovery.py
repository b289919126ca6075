"""Which listings show a base's models, and how far down to walk each."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hubdelta.crawler.entry import Entry, read_entry
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.hub_errors import HUB_FAILURES, is_hidden
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, RunRow
from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

ALL_ADAPTERS: Final = "peft"
"""The listing of all PEFT adapters, including those without a lineage tag of the base."""

OVERLAP: Final = timedelta(hours=1)
"""How far below its mark a listing is walked: the Hub's replicas and clocks may lag that much."""

_INCREMENTAL_PAGE: Final = 100
"""Entries per page when little is expected to be new; a page of 1000 is several megabytes."""

_MOST_ASKED: Final = 10  # repositories requested individually before any counts as gone


def lineage_listings(name: str, relations: Iterable[str], *, with_copies: bool) -> list[str]:
    """The tags whose listings show a model's descendants.

    Args:
        name: the model's current name.
        relations: which ones: adapter, finetune.
        with_copies: include its quantized copies. They come first: their adapters fit the base.
    """
    copies = [f"base_model:quantized:{name}"] if with_copies else []
    return [*copies, *(f"base_model:{relation}:{name}" for relation in relations)]


def read_marks(index: Index, base: str, *, has_rows: bool) -> dict[str, datetime]:
    """Each listing's mark: everything that changed before it is in the catalog.

    Failed and interrupted runs count too: they record marks only for listings that they walked to
    the end.

    Args:
        index: where the runs are recorded.
        base: the base model.
        has_rows: whether its catalog has rows; if it lost those of earlier crawls, no mark is
            valid.
    """
    marks: dict[str, datetime] = {}
    runs = rows_of(index.read(RunRow, base=base), RunRow)
    if not has_rows and any(run.counts.get("new") for run in runs):
        return {}
    for run in runs:
        for tag, mark in run.marks.items() if run.kind == "crawl" else ():
            marks[tag] = max(mark, marks.get(tag, mark))
    return marks


@dataclass
class Walk:
    """A walk down one listing, newest change first.

    Attributes:
        hub: whose listing.
        tag: the tag that its models carry.
        mark: where an earlier walk began, or None to walk all of it.
        began: start of the crawl; no mark is set later, whatever dates the Hub shows.
        newest: the newest change seen.
        unreadable: the names of skipped entries, if they have one.
        complete: whether it reached the mark or the end.
    """

    hub: Hub
    tag: str
    mark: datetime | None
    began: datetime
    newest: datetime | None = None
    unreadable: list[str] = field(default_factory=list)
    complete: bool = False

    def __iter__(self) -> Iterator[Entry]:
        """The entries, as long as they can have changed since the mark.

        Raises:
            HubError: no answer, or not a Hub's.
        """
        size = self.hub.settings.page_size
        if self.mark is not None:
            size = min(size, _INCREMENTAL_PAGE)
        for raw in self.hub.listing(self.tag, page_size=size):
            try:
                entry = _listed_entry(raw)
            except ValueError as error:
                self.unreadable.append(str(raw.get("id")) if isinstance(raw, dict) else "")
                logger.warning("%s: skipped an entry: %s", self.tag, error)
                continue
            changed = entry.last_modified
            if changed is not None:
                if self.mark is not None and changed < self.mark - OVERLAP:
                    break
                self.newest = max(changed, self.newest or changed)
            yield entry
        self.complete = True

    @property
    def next_mark(self) -> datetime | None:
        """The mark for the next crawl, after a complete walk."""
        known = [time for time in (self.mark, self.newest) if time is not None]
        return min(max(known), self.began) if known else None


def _listed_entry(raw: object) -> Entry:
    """An entry of a listing; one without a file list must not look as if its files were gone."""
    entry = read_entry(raw)
    if isinstance(raw, dict) and not isinstance(raw.get("siblings"), list):
        raise ValueError(f"{entry.repo_id}: no list of files")
    return entry


def gone(hub: Hub, unseen: Sequence[CatalogRow], tags: Set[str]) -> list[CatalogRow]:
    """Which of the rows in no listing have vanished, as far as the listings can be trusted.

    A Hub whose listings are short or empty for a while must not make a catalog vanish, so up to
    `_MOST_ASKED` of the repositories are requested individually. One that exists and carries the
    tag of a listing should have been in it.

    Args:
        hub: where from.
        unseen: rows that no listing showed.
        tags: of the listings that were walked.

    Returns:
        All rows, if none of the requested repositories should have been listed; otherwise only
        rows of requested ones.
    """
    names = sorted({row.repo_id for row in unseen})
    asked = names[:: -(-len(names) // _MOST_ASKED) or 1]
    left_out = {name for name in asked if _is_listed(hub, name, tags)}
    if not left_out:
        return list(unseen)
    believed = set(asked) - left_out if len(asked) == len(names) else set()
    logger.warning(
        "the listings omit %s, which is on %s: of %s in no listing, %d marked as vanished; "
        "the next full crawl looks again",
        min(left_out),
        hub.endpoint,
        counted(len(names), "repository", "repositories"),
        len(believed),
    )
    return [row for row in unseen if row.repo_id in believed]


def _is_listed(hub: Hub, repo_id: str, tags: Set[str]) -> bool:
    """Whether a repository should be, or may be, in one of the listings of these tags."""
    try:
        entry = hub.model(repo_id)
    except HUB_FAILURES as error:
        return not is_hidden(error)
    return entry.repo_id == repo_id and not tags.isdisjoint(entry.tags)


def changed_marks(walks: Iterable[Walk]) -> Mapping[str, datetime]:
    """The marks set by those walks that are complete."""
    return {
        walk.tag: mark for walk in walks if walk.complete and (mark := walk.next_mark) is not None
    }
