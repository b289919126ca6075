"""Why an adapter has no answer: unknown, failed, pending or gone."""

from typing import Any

from hubdelta.schemas.errors import NoVectorError
from hubdelta.schemas.words import either
from hubdelta.sql.connection import Queries


def has_vector(queries: Queries, name: str) -> bool:
    """Whether an adapter has a vector that can be compared."""
    return len(queries.run("SELECT base FROM hubdelta.vectors_of(?)", [name])) > 0


def obstacle(queries: Queries, pair: list[str]) -> str | None:
    """Why two adapters cannot be compared; None if they can."""
    lacking = without_vectors(queries, pair)
    if lacking:
        return "; ".join(map(str, lacking))
    (row,) = queries.run("SELECT hubdelta.obstacle(?, ?) AS obstacle", pair).to_pylist()
    return None if row["obstacle"] is None else str(row["obstacle"])


def without_vectors(queries: Queries, names: list[str]) -> list[NoVectorError]:
    """The errors for those of some adapters that have no comparable vector."""
    lacking = [name for name in dict.fromkeys(names) if not has_vector(queries, name)]
    return [without_vector(queries, name) for name in lacking]


def is_known(queries: Queries, name: str) -> bool:
    """Whether the index knows an adapter, at any revision."""
    return len(_states(queries, name)) > 0


def without_vector(queries: Queries, name: str) -> NoVectorError:
    """Why an adapter has no vector."""
    rows = _states(queries, name)
    if not rows:
        return _why_unknown(queries, name)
    row = rows[0]
    if name not in (row["adapter"], f"{row['adapter']}@{row['revision']}"):
        return NoVectorError(
            f"no vector of {row['adapter']} at {name.rpartition('@')[2]}: "
            f"the index knows it at {row['revision']}"
        )
    if row["status"] == "failed":
        return NoVectorError(
            f"{row['adapter']} has no vector ({row['reason']}): {row['message']}", has_failed=True
        )
    if row["status"] == "embedded":
        return NoVectorError(
            f"{row['adapter']} has a vector without direction: it answers the probes as "
            "its base does, so it has no neighbors"
        )
    if row["status"] == "vanished":
        return NoVectorError(f"{row['adapter']} has no vector: the Hub no longer has it")
    return NoVectorError(
        f"{row['adapter']} has no vector yet: no run has embedded it",
        base=row["base"],
        kind=row["kind"],
    )


def _states(queries: Queries, name: str) -> list[dict[str, Any]]:
    """What is known of an adapter at each revision, the requested one first."""
    rows: list[dict[str, Any]] = queries.run(
        "SELECT adapter, base, kind, status, reason, message, revision FROM adapters"
        " WHERE adapter = $name OR adapter || '@' || revision = $name"
        " OR adapter = regexp_replace($name, '@[^@]*$', '')"
        " ORDER BY adapter <> $name, status = 'failed' DESC, base",
        {"name": name},
    ).to_pylist()
    return rows


def _why_unknown(queries: Queries, name: str) -> NoVectorError:
    """The error for an unknown adapter; one named by hand and not found has a failure."""
    failures = queries.run(
        "SELECT reason, message FROM failures WHERE adapter = ? ORDER BY failed_at DESC LIMIT 1",
        [name],
    ).to_pylist()
    if failures:
        return NoVectorError(
            f"{name} has no vector ({failures[0]['reason']}): {failures[0]['message']}",
            has_failed=True,
        )
    return NoVectorError(f"no adapter {name} in the index{_nearest(queries, name)}")


def _nearest(queries: Queries, name: str) -> str:
    rows = queries.run(
        "SELECT DISTINCT adapter, jaro_winkler_similarity(lower(adapter), lower($name)) AS likeness"
        " FROM adapters WHERE likeness > 0.8 ORDER BY likeness DESC, adapter LIMIT 3",
        {"name": name},
    )
    names = rows["adapter"].to_pylist()
    return f"; did you mean {either(list(map(str, names)))}?" if names else ""
