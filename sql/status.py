"""The state of an index: what it knows of each base, lacks, and takes on disk."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.rows import TABLES
from hubdelta.sql.connection import Queries


@dataclass(frozen=True)
class BaseStatus:
    """What an index knows of one base; the counts are adapters.

    Attributes:
        base: the base model.
        known: adapters in the catalog; each is one of the four that follow.
        embedded: those whose present revision has a vector.
        pending: those whose present revision was not tried yet.
        failed: those whose present revision gave no vector, by reason, most frequent first.
        vanished: those that the Hub no longer has.
        contradictions: those that were concluded to belong to another base.
        last_crawl: end of the last crawl that was done; None before the first.
    """

    base: str
    known: int
    embedded: int
    pending: int
    failed: dict[str, int]
    vanished: int
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
    """

    root: Path
    bases: list[BaseStatus]
    runs: pa.Table
    files: int
    bytes: int


def status(queries: Queries, base: str | None = None, *, last_runs: int = 5) -> IndexStatus:
    """What the index knows, lacks and takes on disk.

    Args:
        queries: the index.
        base: count this base only; None for every base. Size and files are always the index's.
        last_runs: how many runs to list.

    Raises:
        QueryError: the index has no such base.
    """
    if base is not None:
        check_base(queries, base)
    sizes = [
        path.stat().st_size
        for row_type in TABLES
        for path in (queries.index.root / row_type.table).rglob("*.parquet")
    ]
    names = _bases(queries) if base is None else [base]
    return IndexStatus(
        root=queries.index.root,
        bases=[_base_status(queries, name) for name in names],
        runs=queries.run(
            "FROM runs WHERE ?::VARCHAR IS NULL OR base = ? ORDER BY started_at DESC LIMIT ?",
            [base, base, last_runs],
        ),
        files=len(sizes),
        bytes=sum(sizes),
    )


def check_base(queries: Queries, base: str) -> None:
    """Refuse a base that the index does not have.

    Raises:
        QueryError: it has no such base; the text names those it has.
    """
    known = _bases(queries)
    if base not in known:
        has = f"it has {', '.join(known)}" if known else "it is empty"
        raise QueryError(f"the index has no base {base}: {has}")


def _base_status(queries: Queries, base: str) -> BaseStatus:
    counts = queries.run(
        "SELECT status, reason, count(*) AS adapters,"
        " count(*) FILTER (canonical_base <> base) AS contradictions"
        " FROM adapters WHERE base = ? GROUP BY ALL ORDER BY adapters DESC, reason",
        [base],
    ).to_pylist()
    crawls = queries.run(
        "SELECT max(started_at + to_microseconds((seconds * 1e6)::BIGINT)) AS ended FROM runs"
        " WHERE kind = 'crawl' AND outcome = 'done' AND base = ?",
        [base],
    ).to_pylist()
    of = {
        state: sum(row["adapters"] for row in counts if row["status"] == state)
        for state in ("embedded", "pending", "vanished")
    }
    return BaseStatus(
        base=base,
        known=sum(row["adapters"] for row in counts),
        failed={row["reason"]: row["adapters"] for row in counts if row["status"] == "failed"},
        contradictions=sum(row["contradictions"] for row in counts),
        last_crawl=crawls[0]["ended"],
        **of,
    )


def _bases(queries: Queries) -> list[str]:
    rows = queries.run(
        "SELECT base FROM catalog UNION SELECT base FROM bases UNION SELECT base FROM runs"
        " ORDER BY base",
    )
    return [str(name) for name in rows["base"].to_pylist()]
