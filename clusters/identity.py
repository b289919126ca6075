"""Matching new clusters with earlier ones: numbers follow the members in common.

A number stays with the cluster that has the most of its members: if a cluster splits, with the
largest part; if clusters merge, the number of the largest contributor stays. Adapters that were
renamed, have another recipe, or are gone do not count. A dissolved cluster gets its number back
when most of its members form most of a cluster again. No number is given twice.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hubdelta.schemas.rows import ClusterRow


@dataclass(frozen=True)
class Found:
    """A cluster found by this run.

    Attributes:
        recipe_id: of its vectors.
        members: its adapters' names.
        medoid: the most central of them.
    """

    recipe_id: str
    members: frozenset[str]
    medoid: str

    @property
    def rank(self) -> tuple[int, str, str]:
        """Sort key of clusters: the largest first, then by name."""
        return -len(self.members), self.medoid, self.recipe_id


@dataclass(frozen=True)
class _Known:
    """A cluster of earlier runs, by its last row that has members."""

    recipe_id: str
    survivors: frozenset[str]
    is_dissolved: bool


def number(
    found: Sequence[Found], past: Iterable[ClusterRow], present: frozenset[str]
) -> list[int]:
    """The number of each cluster of a base.

    Args:
        found: the clusters of this run, of all recipes.
        past: all rows of the base, oldest first.
        present: the names of all adapters that this run clustered, including noise.

    Returns:
        Old numbers, and for new clusters the next ones, larger clusters first, equal ones by the
        name of the medoid.
    """
    known = _known(past, present)
    numbers: dict[int, int] = {}
    taken: set[int] = set()
    for place, old in _matches(found, known):
        if place not in numbers and old not in taken:
            numbers[place] = old
            taken.add(old)
    new = sorted(set(range(len(found))) - numbers.keys(), key=lambda place: found[place].rank)
    numbers |= {place: n for n, place in enumerate(new, max(known, default=0) + 1)}
    return [numbers[place] for place in range(len(found))]


def _known(past: Iterable[ClusterRow], present: frozenset[str]) -> dict[int, _Known]:
    known: dict[int, _Known] = {}
    for row in past:
        survivors = present.intersection(row.members)
        if not row.members and row.cluster in known:
            survivors = known[row.cluster].survivors
        known[row.cluster] = _Known(row.recipe_id, survivors, is_dissolved=not row.members)
    return known


def _matches(found: Sequence[Found], known: dict[int, _Known]) -> list[tuple[int, int]]:
    """Pairs of a cluster's place and a number it may get, best first.

    Clusters that still have most of their members in their own recipe come first, since two recipes
    may have clusters of the same adapters; a dissolved cluster never displaces an existing one.
    """
    clusters_of = defaultdict(list)
    for old, past in known.items():
        for name in past.survivors:
            clusters_of[name].append(old)
    ranked = []
    for place, cluster in enumerate(found):
        common = Counter(old for name in cluster.members for old in clusters_of[name])
        for old, overlap in common.items():
            past = known[old]
            sizes = len(cluster.members), len(past.survivors)
            if 2 * overlap <= (max(sizes) if past.is_dissolved else min(sizes)):
                continue
            stayed = past.recipe_id == cluster.recipe_id and 2 * overlap > len(past.survivors)
            rank = past.is_dissolved, not stayed, -overlap, old, cluster.rank
            ranked.append((rank, place, old))
    return [(place, old) for _, place, old in sorted(ranked)]
