"""The plan of an index run: catalog minus vectors minus failures that are not yet due."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from hubdelta.indexer.adapters.pending import Pending, key_of
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import Reason
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterKey
from hubdelta.schemas.kinds import Kind
from hubdelta.schemas.rows import CatalogRow, FailureRow, VectorRow

FULL_FINETUNE, BEYOND_LIMIT = "full finetune, not asked for", "beyond the limit"
"""Why an adapter is skipped because of an option of the run."""

_ROW_VERDICTS = frozenset({Reason.DISABLED, Reason.BASE_MISMATCH, Reason.NO_WEIGHTS})
"""Reasons that may depend on the Hub's metadata, which can change without a new commit."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, and what it skips.

    Attributes:
        pending: to be embedded, most downloaded first.
        skipped: how many are skipped, by reason.
    """

    pending: list[Pending]
    skipped: Counter[str] = field(default_factory=Counter)


def make_plan(
    index: Index,
    *,
    base: str,
    recipe_id: str,
    now: datetime,
    kinds: Collection[str] = (Kind.ADAPTER,),
    only: Iterable[CatalogRow] | None = None,
    retry_failed: bool = False,
    limit: int | None = None,
) -> Plan:
    """Compare what is known with what has been done.

    Args:
        index: the index.
        base: the base model.
        recipe_id: vectors of this recipe count as done.
        now: failures due later are skipped.
        kinds: which kinds of catalog rows to embed: adapter, full.
        only: plan these rows, named by hand, instead of the catalog, regardless of kind; their
            failures count as due.
        retry_failed: all failures count as due.
        limit: the most adapters to plan.
    """
    done = {
        AdapterKey(row["repo_id"], row["subfolder"], row["revision"])
        for row in index.read(
            VectorRow, base=base, columns=["repo_id", "subfolder", "revision", "recipe_id"]
        ).to_pylist()
        if row["recipe_id"] == recipe_id
    }
    failures = newest_failures(index, base)
    rows = newest(rows_of(index.read(CatalogRow, base=base), CatalogRow)) if only is None else only
    plan = Plan([])
    for row in {key_of(row): row for row in rows}.values():
        failure = failures.get(key_of(row))
        if key_of(row) in done and row.canonical_base in (None, base):
            plan.skipped["already embedded"] += 1
        elif only is None and row.kind == Kind.FULL and Kind.FULL not in kinds:
            plan.skipped[FULL_FINETUNE] += 1
        elif only is None and row.kind not in kinds:
            continue
        elif row.vanished_at is not None:
            plan.skipped["vanished"] += 1
        elif failure and only is None and not retry_failed and not _due(failure, row, now):
            plan.skipped["failed before, not due"] += 1
        else:
            plan.pending.append(Pending(row, failure.attempt + 1 if failure else 1))
    plan.pending.sort(key=lambda pending: (-(pending.row.downloads or 0), pending.key))
    if limit is not None and len(plan.pending) > limit:
        plan.skipped[BEYOND_LIMIT] += len(plan.pending) - limit
        plan.pending[:] = islice(plan.pending, limit)
    return plan


def newest(rows: Iterable[CatalogRow]) -> list[CatalogRow]:
    """The newest row of each (repository, subfolder)."""
    latest: dict[tuple[str, str], CatalogRow] = {}
    for row in rows:
        name = (row.repo_id, row.subfolder)
        if name not in latest or row.crawled_at >= latest[name].crawled_at:
            latest[name] = row
    return list(latest.values())


def newest_failures(index: Index, base: str) -> dict[AdapterKey, FailureRow]:
    """The latest failure of each adapter that has failed."""
    newest: dict[AdapterKey, FailureRow] = {}
    for row in rows_of(index.read(FailureRow, base=base), FailureRow):
        key = key_of(row)
        if key not in newest or row.attempt >= newest[key].attempt:
            newest[key] = row
    return newest


def _due(failure: FailureRow, row: CatalogRow, now: datetime) -> bool:
    """Whether its pause is over, or the Hub metadata that caused the failure has changed."""
    if failure.failed_at > now:  # recorded by a clock that was ahead: its times are meaningless
        return failure.due_at is not None or failure.reason in _ROW_VERDICTS
    if failure.reason in _ROW_VERDICTS and row.crawled_at > failure.failed_at:
        return True
    return failure.due_at is not None and failure.due_at <= now
