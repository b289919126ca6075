"""The state of an index: what it knows of each base, what is missing, and its size on disk."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.kinds import Kind
from hubdelta.schemas.layout import files_under
from hubdelta.schemas.rows import TABLES
from hubdelta.schemas.words import either
from hubdelta.sql.cache import flat_deltas
from hubdelta.sql.cache.locks import CACHE_NAME
from hubdelta.sql.connection import Queries


@dataclass(frozen=True)
class BaseStatus:
    """What an index knows of one base; the counts are adapters.

    Attributes:
        base: the base model.
        known: adapters in the catalog, and those named by hand that the Hub did not have; each
            counts in one of the next four.
        embedded: those whose current revision has a vector.
        pending: those whose current revision has not been tried.
        failed: those whose current revision gave no vector, by reason, most frequent first.
        failed_locally: the failed ones in local folders, by reason.
        vanished: those that the Hub no longer has.
        pending_finetunes: the pending full finetunes, embedded on demand only.
        due: when the first of the failed ones is retried, by reason; None: when its repository
            changes, or on demand.
        contradictions: those found to belong to another base.
        last_crawl: end of the last completed crawl; None before the first.
    """

    base: str
    known: int
    embedded: int
    pending: int
    failed: dict[str, int]
    failed_locally: dict[str, int]
    vanished: int
    pending_finetunes: int
    due: dict[str, datetime | None]
    contradictions: int
    last_crawl: datetime | None

    @property
    def crawl_age(self) -> timedelta | None:
        """Time since the last crawl; None before the first."""
        return None if self.last_crawl is None else datetime.now(UTC) - self.last_crawl


@dataclass(frozen=True)
class IndexStatus:
    """The state of an index.

    Attributes:
        root: its directory.
        bases: each base, by name.
        runs: the last runs, newest first, with the columns of the table `runs`.
        files: number of Parquet files.
        bytes: their size.
        cache_bytes: size of the cache that queries read, which is derived from them.
    """

    root: Path
    bases: list[BaseStatus]
    runs: pa.Table
    files: int
    bytes: int
    cache_bytes: int


def status(queries: Queries, base: str | None = None, *, last_runs: int = 5) -> IndexStatus:
    """What the index knows, what is missing, and its size on disk.

    Args:
        queries: the index.
        base: count this base only; None for every base. Size and files are of the whole index.
        last_runs: how many runs to list.

    Raises:
        QueryError: the index has no such base.
    """
    if base is not None:
        check_base(queries, base)
    sizes = _sizes(
        path for row_type in TABLES for path in files_under(queries.index.root / row_type.table)
    )
    with_log = queries.index.root.glob(f"{CACHE_NAME}*")
    derived = [*with_log, *flat_deltas.files(queries.index)]
    return IndexStatus(
        root=queries.index.root,
        bases=_base_statuses(queries, base),
        runs=queries.run(
            "FROM runs WHERE ?::VARCHAR IS NULL OR base = ? "
            "ORDER BY started_at > now(), started_at DESC LIMIT ?",
            [base, base, last_runs],
        ),
        files=len(sizes),
        bytes=sum(sizes),
        cache_bytes=sum(_sizes(derived)),
    )


def _sizes(paths: Iterable[Path]) -> list[int]:
    """Sizes of files [bytes]; a run may remove any of them after they were listed."""
    sizes = []
    for path in paths:
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sizes


def check_base(queries: Queries, base: str) -> None:
    """Reject a base that the index does not have.

    Raises:
        QueryError: it has no such base; the message names those it has.
    """
    known = bases(queries)
    if base in known:
        return
    if not known:
        raise QueryError(f"the index has no base {base}: it is empty")
    folded = {name.lower(): name for name in known}
    likely = [folded[name] for name in get_close_matches(base.lower(), folded, n=3, cutoff=0.75)]
    if likely:
        raise QueryError(f"the index has no base {base}: did you mean {either(likely)}?")
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    raise QueryError(f"the index has no base {base}: it has {', '.join(known[:5])}{more}")


def bases(queries: Queries) -> list[str]:
    """The names of all bases of an index, sorted, except those that no run could find."""
    rows = queries.run(
        "SELECT base FROM catalog UNION SELECT base FROM bases UNION SELECT base FROM failures"
        " UNION SELECT base FROM runs WHERE outcome <> 'failed' ORDER BY base",
    )
    return [str(name) for name in rows["base"].to_pylist()]


# Adapters named by hand and not found have failures but no row in `adapters`.
_COUNTS = """
    WITH unknown AS (
        SELECT f.base, f.repo_id, f.reason, f.due_at
        FROM failures AS f
        ANTI JOIN adapters AS a USING (base, repo_id, subfolder)
        QUALIFY row_number() OVER (
            PARTITION BY f.base, f.repo_id, f.subfolder
            ORDER BY f.failed_at DESC, f.attempt DESC, f.run_id DESC
        ) = 1
    ),
    states AS (
        SELECT
            a.base, a.repo_id, a.status, a.reason, a.due_at,
            a.canonical_base <> a.base AS contradicts, a.kind = ? AS is_finetune
        FROM adapters AS a
        UNION ALL
        SELECT u.base, u.repo_id, 'failed', u.reason, u.due_at, false, false FROM unknown AS u
    )
    SELECT
        s.base, s.status, s.reason, count(*) AS adapters, min(s.due_at) AS due_at,
        count(*) FILTER (s.contradicts) AS contradictions,
        count(*) FILTER (s.is_finetune) AS finetunes,
        count(*) FILTER (s.repo_id LIKE '/%') AS in_folders
    FROM states AS s
    WHERE ?::VARCHAR IS NULL OR s.base = ?
    GROUP BY s.base, s.status, s.reason
    ORDER BY adapters DESC, s.reason
"""

# A crawl dated in the future comes from a wrong clock: it counts only if there is no other.
_CRAWLS = """
    WITH crawls AS (
        SELECT
            r.base, r.started_at,
            r.started_at + to_microseconds((r.seconds * 1e6)::BIGINT) AS ended
        FROM runs AS r
        WHERE r.kind = 'crawl' AND r.outcome = 'done'
    )
    SELECT c.base, coalesce(max(c.ended) FILTER (c.started_at <= now()), max(c.ended)) AS ended
    FROM crawls AS c
    GROUP BY c.base
"""


def _base_statuses(queries: Queries, base: str | None) -> list[BaseStatus]:
    crawls = queries.run(_CRAWLS)
    ended = dict(zip(crawls["base"].to_pylist(), crawls["ended"].to_pylist(), strict=True))
    counts: dict[str, list[dict[str, Any]]] = {
        name: [] for name in (bases(queries) if base is None else [base])
    }
    for row in queries.run(_COUNTS, [Kind.FULL, base, base]).to_pylist():
        counts.setdefault(row["base"], []).append(row)
    return [_base_status(name, rows, ended.get(name)) for name, rows in counts.items()]


def _base_status(
    base: str, counts: list[dict[str, Any]], last_crawl: datetime | None
) -> BaseStatus:
    of = {
        state: sum(row["adapters"] for row in counts if row["status"] == state)
        for state in ("embedded", "pending", "vanished")
    }
    failed = [row for row in counts if row["status"] == "failed"]
    return BaseStatus(
        base=base,
        known=sum(row["adapters"] for row in counts),
        failed={row["reason"]: row["adapters"] for row in failed},
        failed_locally={row["reason"]: row["in_folders"] for row in failed if row["in_folders"]},
        pending_finetunes=sum(row["finetunes"] for row in counts if row["status"] == "pending"),
        due={row["reason"]: row["due_at"] for row in failed},
        contradictions=sum(row["contradictions"] for row in counts),
        last_crawl=last_crawl,
        **of,
    )
