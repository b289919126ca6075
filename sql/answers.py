"""The questions that the command line asks: neighbors, domains, and the state of the index."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from hubdelta.schemas.errors import QueryError, UsageError
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


def similar(queries: Queries, adapter: str, k: int = 10) -> pa.Table:
    """The k adapters most similar to one, nearest first.

    Args:
        queries: the index.
        adapter: `org/name[/subfolder][@revision]`, or the path of an indexed local folder.
        k: how many.

    Returns:
        adapter, similarity, distance, signal, downloads, license, datasets, base, repo_id,
        subfolder, revision.

    Raises:
        QueryError: the adapter has no vector that can be compared; the text says why.
        UsageError: k is less than 1.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1, not {k}")
    name = _argument(adapter)
    found = queries.run("FROM neighbors(?, k := ?)", [name, k])
    if not len(found) and not len(queries.run("FROM hubdelta.vectors_of(?)", [name])):
        raise QueryError(_why_without_vector(queries, name))
    return found


def domains(queries: Queries, base: str | None = None, distance: float = 0.25) -> pa.Table:
    """The domains of a base: groups of adapters that chains of near neighbors join.

    Args:
        queries: the index.
        base: the base; None for every base.
        distance: cosine distance up to which two adapters are joined, 0 to 2.

    Returns:
        domain, name, size, central, members, base; the largest domain first.

    Raises:
        QueryError: the index has no such base.
        UsageError: the distance is out of range.
    """
    if not (math.isfinite(distance) and 0 <= distance <= 2):
        raise UsageError(f"a cosine distance is between 0 and 2, not {distance}")
    if base is not None:
        _check_base(queries, base)
    return queries.run("FROM domains(?, distance := ?)", [base, distance])


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
        _check_base(queries, base)
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


def _check_base(queries: Queries, base: str) -> None:
    known = _bases(queries)
    if base not in known:
        has = f"it has {', '.join(known)}" if known else "it is empty"
        raise QueryError(f"the index has no base {base}: {has}")


def _argument(text: str) -> str:
    """The adapter's name as the views have it: a local folder by its absolute path."""
    text = text.strip()
    if text.startswith(("/", "./", "../", "~")):
        return Path(text).expanduser().resolve().as_posix()
    return text.rstrip("/")


def _why_without_vector(queries: Queries, name: str) -> str:
    rows = queries.run(
        "SELECT adapter, base, status, reason, message, revision FROM adapters"
        " WHERE adapter = $name OR adapter || '@' || revision = $name"
        " OR adapter = regexp_replace($name, '@[^@]*$', '')"
        " ORDER BY adapter <> $name, status = 'failed' DESC, base",
        {"name": name},
    ).to_pylist()
    if not rows:
        return f"no adapter {name} in the index{_nearest(queries, name)}"
    row = rows[0]
    if name not in (row["adapter"], f"{row['adapter']}@{row['revision']}"):
        return (
            f"no vector of {row['adapter']} at {name.rpartition('@')[2]}: "
            f"the index knows it at {row['revision']}"
        )
    if row["status"] == "failed":
        return f"{row['adapter']} has no vector ({row['reason']}): {row['message']}"
    if row["status"] == "embedded":
        return (
            f"{row['adapter']} has a vector without direction: it answers the probes as "
            "its base does, so nothing is near to it"
        )
    if row["status"] == "vanished":
        return f"{row['adapter']} has no vector: the Hub no longer has it"
    return (
        f"{row['adapter']} has no vector yet: run `hubdelta index --base {row['base']}` to embed it"
    )


def _nearest(queries: Queries, name: str) -> str:
    rows = queries.run(
        "SELECT DISTINCT adapter, jaro_winkler_similarity(lower(adapter), lower($name)) AS likeness"
        " FROM adapters WHERE likeness > 0.8 ORDER BY likeness DESC, adapter LIMIT 3",
        {"name": name},
    )
    names = rows["adapter"].to_pylist()
    return f"; did you mean {' or '.join(map(str, names))}?" if names else ""
