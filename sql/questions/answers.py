"""The questions one asks an index: what is alike, what is odd, what is new, and the domains."""

import math
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from hubdelta.schemas.defaults import (
    DISTANCE,
    DUPLICATE_DISTANCE,
    LARGEST_DISTANCE,
    NEIGHBORS,
    VOTERS,
)
from hubdelta.schemas.errors import QueryError, UsageError
from hubdelta.schemas.keys import AdapterName
from hubdelta.sql.connection import Queries
from hubdelta.sql.questions.status import check_base
from hubdelta.sql.questions.unanswered import (
    has_vector,
    is_known,
    obstacle,
    without_vector,
)

_MOST = 1_000_000_000
"""How many neighbors may be asked for: more than anybody has."""


@dataclass(frozen=True)
class Comparison:
    """Two adapters side by side.

    Attributes:
        a: the first, as the index writes it: a local folder by its absolute path.
        b: the second.
        similarity: cosine in their latest common recipe; None if they cannot be compared.
        distance: 1 - similarity.
        angle: between the two [degrees].
        obstacle: why they cannot be compared; None if they can.
        shared: the adapters among the 10 nearest of both: adapter, distance_to_a, distance_to_b;
            the nearest to both first.
        properties: what is known of each: property, a, b, all of them text.
    """

    a: str
    b: str
    similarity: float | None
    distance: float | None
    angle: float | None
    obstacle: str | None
    shared: pa.Table
    properties: pa.Table


def similar(queries: Queries, adapter: AdapterName, k: int = NEIGHBORS) -> pa.Table:
    """The k adapters most similar to one, nearest first.

    Args:
        queries: the index.
        adapter: the adapter.
        k: how many.

    Returns:
        adapter, similarity, distance, signal, downloads, license, datasets, base, repo_id,
        subfolder, revision.

    Raises:
        QueryError: the adapter has no vector that can be compared; the text says why.
        UsageError: k is not a positive integer.
    """
    _check_k(k)
    name = str(adapter)
    return _near(queries, name, queries.neighbors(name, k))


def within(queries: Queries, adapter: AdapterName, distance: float = DISTANCE) -> pa.Table:
    """The adapters no further from one than a distance, nearest first.

    Args:
        queries: the index.
        adapter: the adapter.
        distance: cosine distance, 0 to 2.

    Returns:
        The columns of `similar`.

    Raises:
        QueryError: the adapter has no vector that can be compared; the text says why.
        UsageError: the distance is out of range.
    """
    _check_distance(distance)
    name = str(adapter)
    return _near(queries, name, queries.within(name, distance))


def similarity(queries: Queries, a: AdapterName, b: AdapterName) -> float | None:
    """The cosine of two adapters in their latest common recipe; None if they cannot be compared.

    Args:
        queries: the index.
        a: an adapter.
        b: another.

    Raises:
        QueryError: the index does not know one of them.
    """
    pair = [str(a), str(b)]
    (row,) = queries.run("SELECT similarity(?, ?) AS cosine", pair).to_pylist()
    if row["cosine"] is not None:
        return float(row["cosine"])
    for name in pair:
        if not has_vector(queries, name) and not is_known(queries, name):
            raise without_vector(queries, name)
    return None


def duplicates(
    queries: Queries, base: str | None = None, distance: float = DUPLICATE_DISTANCE
) -> pa.Table:
    """Pairs of adapters that do almost the same, nearest first.

    Args:
        queries: the index.
        base: the base; None for every base.
        distance: up to which cosine distance, 0 to 2.

    Returns:
        a, b, similarity, distance, base.

    Raises:
        QueryError: the index has no such base.
        UsageError: the distance is out of range.
    """
    _check_distance(distance)
    if base is not None:
        check_base(queries, base)
    return queries.run("FROM duplicates(?, distance := ?)", [base, distance])


def between(queries: Queries, a: AdapterName, b: AdapterName, k: int = NEIGHBORS) -> pa.Table:
    """The k adapters most similar to the sum of two: trained, perhaps, on the data of both.

    Args:
        queries: the index.
        a: an adapter.
        b: another.
        k: how many.

    Returns:
        adapter, similarity and distance to the sum, to_a and to_b (cosines), signal, downloads,
        license, datasets, base, repo_id, subfolder, revision.

    Raises:
        QueryError: one has no vector that can be compared, they have no recipe in common, or they
            cancel each other out; the text says which.
        UsageError: k is not a positive integer.
    """
    _check_k(k)
    pair = [str(a), str(b)]
    found = queries.run('FROM "between"(?, ?, k := ?)', [*pair, k])
    if not len(found):
        why = obstacle(queries, pair)
        if why:
            raise QueryError(f"{pair[0]} and {pair[1]} have no sum: {why}")
        if not len(queries.run("SELECT base FROM hubdelta.sum_of(?, ?)", pair)):
            raise QueryError(f"the sum of {pair[0]} and {pair[1]} is zero: they are opposites")
    return found


def outliers(queries: Queries, base: str | None = None, k: int = NEIGHBORS) -> pa.Table:
    """The k adapters whose nearest other one is farthest away.

    Args:
        queries: the index.
        base: the base; None for every base.
        k: how many.

    Returns:
        adapter, nearest, distance, signal, norm, adapter_type, downloads, license, datasets, base,
        repo_id, subfolder, revision; the farthest first.

    Raises:
        QueryError: the index has no such base.
        UsageError: k is not a positive integer.
    """
    _check_k(k)
    if base is not None:
        check_base(queries, base)
    return queries.run("FROM outliers(?, k := ?)", [base, k])


def new_since(queries: Queries, since: str | date | datetime) -> pa.Table:
    """The adapters that are new, updated or first embedded since then.

    Args:
        queries: the index.
        since: a day or a time, in UTC where it does not say; text as DuckDB reads timestamps.

    Returns:
        adapter, base, change (new, updated or embedded), status, reason, seen_at, embedded_at,
        cluster, signal, downloads, license, datasets, author; the newest first.

    Raises:
        QueryError: the text is no time.
    """
    return queries.run("FROM new_since(?)", [since])


def compare(queries: Queries, a: AdapterName, b: AdapterName) -> Comparison:
    """Two adapters side by side: how far apart, near to whom, and what is known of each.

    Args:
        queries: the index.
        a: an adapter.
        b: another.

    Raises:
        QueryError: the index does not know one of them.
    """
    pair = [str(a), str(b)]
    properties = queries.run(
        "SELECT property, a, b FROM hubdelta.side_by_side(?, ?) ORDER BY position", pair
    )
    for side, name in zip("ab", pair, strict=True):
        if properties[side].null_count == len(properties):
            raise without_vector(queries, name)
    (measured,) = queries.run(
        "SELECT cosine AS similarity, round(1 - cosine, 6) AS distance,"
        " hubdelta.angle(cosine) AS angle FROM (SELECT similarity(?, ?) AS cosine)",
        pair,
    ).to_pylist()
    return Comparison(
        a=pair[0],
        b=pair[1],
        similarity=measured["similarity"],
        distance=measured["distance"],
        angle=measured["angle"],
        obstacle=obstacle(queries, pair) if measured["similarity"] is None else None,
        shared=queries.run("FROM hubdelta.shared_neighbors(?, ?)", pair),
        properties=properties,
    )


def domains(
    queries: Queries,
    base: str | None = None,
    distance: float | None = None,
) -> pa.Table:
    """The domains of a base: groups of adapters that behave alike.

    Args:
        queries: the index.
        base: the base; None for every base.
        distance: chains of steps up to this cosine distance, 0 to 2, join a group; None for the
            domains that the last run found, whose numbers last from night to night: density
            clusters or, among few adapters, linkage at a distance of their own.

    Returns:
        domain, name, size, central, members, base, method ("density", "linkage" or
        "linkage at DISTANCE");
        the largest domain of a base first.

    Raises:
        QueryError: the index has no such base.
        UsageError: the distance is out of range.
    """
    if distance is not None:
        _check_distance(distance)
    if base is not None:
        check_base(queries, base)
    return queries.run("FROM domains(?, distance := ?)", [base, distance])


def domain_terms(
    queries: Queries, base: str | None = None, distance: float | None = None
) -> pa.Table:
    """What the names of the domains rest on.

    Args:
        queries: the index.
        base: as for `domains`.
        distance: as for `domains`.

    Returns:
        base, domain, term, source (label, dataset, tag, name or card), inside and outside (how many
        adapters have it), weight, place.
    """
    return queries.run("FROM domain_terms(?, distance := ?)", [base, distance])


def comparable_adapters(queries: Queries, base: str | None = None) -> int:
    """How many adapters have a vector that can be compared.

    Args:
        queries: the index.
        base: the base; None for every base.
    """
    (row,) = queries.run(
        "SELECT count(*) AS adapters FROM comparable AS c"
        " WHERE c.newest AND (?::VARCHAR IS NULL OR c.base = ?)",
        [base, base],
    ).to_pylist()
    return int(row["adapters"])


def suggestions(
    queries: Queries,
    base: str | None = None,
    k: int = VOTERS,
    distance: float = DISTANCE,
    *,
    min_confidence: float = 0.0,
) -> pa.Table:
    """Labels for adapters that have none, from those of their neighbors.

    Args:
        queries: the index.
        base: the base; None for every base.
        k: how many labeled neighbors vote, the nearest ones.
        distance: from which cosine distance on a neighbor has no vote, 0 to 2.
        min_confidence: leave out suggestions of less.

    Returns:
        adapter, label, confidence, votes, nearest, distance, base; the most confident first.

    Raises:
        QueryError: the index has no such base.
        UsageError: k is less than 1, or the distance out of range.
    """
    _check_k(k)
    _check_distance(distance)
    if base is not None:
        check_base(queries, base)
    return queries.run(
        "FROM suggestions(?, k := ?, distance := ?) WHERE confidence >= ?"
        " ORDER BY confidence DESC, adapter, base",
        [base, k, distance, min_confidence],
    )


def _near(queries: Queries, name: str, found: pa.Table) -> pa.Table:
    """What was found near an adapter; to find nothing, it must have a vector.

    Raises:
        QueryError: it has none that can be compared.
    """
    if not len(found) and not has_vector(queries, name):
        raise without_vector(queries, name)
    return found


def _check_k(k: int) -> None:
    if not isinstance(k, int) or not 1 <= k <= _MOST:
        raise UsageError(f"k must be a whole number from 1 to {_MOST:,}, not {k}")


def _check_distance(distance: float) -> None:
    if not (math.isfinite(distance) and 0 <= distance <= LARGEST_DISTANCE):
        raise UsageError(f"a cosine distance is between 0 and {LARGEST_DISTANCE}, not {distance}")
