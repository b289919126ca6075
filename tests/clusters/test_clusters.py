"""The stored clusters: what a night writes, and numbers that stay over many nights."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from simulated import DIMENSIONS, Family, unit
from sklearn.metrics import silhouette_score

from hubdelta.clusters.table import ClusterPool, update_clusters
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import ClusterRow
from hubdelta.vectors.density import cluster
from hubdelta.vectors.linkage import link

BASE = "org/base"
FIRST_NIGHT = datetime(2026, 11, 1, tzinfo=UTC)


class Nights:
    """An index over some nights, and the newest row of each cluster."""

    def __init__(self, root):
        self.index = Index.create(root)
        self.count = 0

    def night(self, *pools):
        """Run the job; a pool is a dict of vectors by name, or (recipe, such a dict)."""
        named = [pool if isinstance(pool, tuple) else ("recipe", pool) for pool in pools]
        made = []
        for recipe, adapters in named:
            units = np.array(list(adapters.values()), np.float32).reshape(-1, DIMENSIONS)
            made.append(ClusterPool(recipe, list(adapters), link(units), units))
        self.count += 1
        return update_clusters(
            self.index,
            BASE,
            made,
            run_id=f"run-{self.count}",
            now=FIRST_NIGHT + timedelta(days=self.count),
        )

    def stored(self):
        return rows_of(self.index.read(ClusterRow, base=BASE), ClusterRow)

    def state(self):
        """The clusters that are, by number."""
        return {n: r for n, r in {r.cluster: r for r in self.stored()}.items() if r.members}


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path / "index")


def named(prefix, vectors):
    return {f"{prefix}/{i:03}": vector for i, vector in enumerate(vectors)}


def domains(seed=0, sizes=(12, 8, 5), noise=4):
    """Vectors by name; the prefix is the domain."""
    family = Family(seed)
    adapters = {}
    for letter, center, size in zip("abcdef", family.directions(len(sizes)), sizes, strict=False):
        adapters |= named(letter, family.around(center, size))
    return adapters | named("noise", family.directions(noise))


def test_a_row_tells_the_cluster(nights):
    adapters = domains()
    rows = nights.night(adapters)
    assert nights.stored() == rows
    assert [row.cluster for row in rows] == [1, 2, 3]
    labels, strengths = cluster(link(np.array(list(adapters.values()))))
    strength = dict(zip(adapters, strengths, strict=True))
    assert (labels >= 0).sum() == sum(len(row.members) for row in rows)

    clustered = [name for row in rows for name in row.members]
    units = np.array([adapters[name] for name in clustered], np.float64)
    distance = 1 - units @ units.T
    np.fill_diagonal(distance, 0)
    number_of = np.repeat([row.cluster for row in rows], [len(row.members) for row in rows])
    assert np.mean([r.silhouette for r in rows for _ in r.members]) == pytest.approx(
        silhouette_score(distance, number_of, metric="precomputed"), abs=1e-4
    )
    for row, letter in zip(rows, "abc", strict=True):
        assert (row.base, row.recipe_id, row.run_id) == (BASE, "recipe", "run-1")
        assert row.clustered_at == FIRST_NIGHT + timedelta(days=1)
        assert {name[0] for name in row.members} == {letter}
        assert row.strengths == pytest.approx([strength[n] for n in row.members], abs=0.0051)
        order = sorted(zip((-s for s in row.strengths), row.members, strict=True))
        assert [name for _, name in order] == row.members
        inside = distance[np.ix_(number_of == row.cluster, number_of == row.cluster)]
        size = len(row.members)
        assert row.medoid == row.members[inside.sum(axis=1).argmin()]
        assert row.cohesion == pytest.approx(1 - inside.sum() / size / (size - 1), abs=1e-4)


def test_of_equal_members_the_first_by_name_is_the_medoid(nights):
    (vector,) = Family(0).directions(1)
    (row,) = nights.night(dict.fromkeys("dbac", vector))
    assert (row.medoid, row.members, row.strengths) == ("a", ["a", "b", "c", "d"], [1.0] * 4)
    assert (row.cohesion, row.silhouette) == (1.0, None)


def test_a_night_without_news_writes_nothing(nights):
    adapters = domains()
    nights.night(adapters)
    shuffled = dict(sorted(adapters.items(), key=lambda pair: pair[0][::-1]))
    assert nights.night(adapters) == nights.night(shuffled) == []
    assert len(nights.stored()) == 3


def test_only_the_cluster_that_changed_gets_a_row(nights):
    """Of three, the one that is not the nearest to any, so that no silhouette rests on it."""
    family = Family(0)
    a, b, c = family.directions(3)
    centers = {"a": a, "b": b, "c": unit(0.4 * a + c)}
    adapters = {}
    for letter, center in centers.items():
        adapters |= named(letter, family.around(center, 10, cosine=0.85))
    nights.night({name: vector for name, vector in adapters.items() if name != "b/007"})
    before = nights.state()
    (row,) = nights.night(adapters)
    assert set(row.members) - set(before[row.cluster].members) == {"b/007"}
    assert nights.state() == before | {row.cluster: row}
    assert nights.night(adapters) == []


def test_a_cluster_dissolves_once_and_returns_under_its_number(nights):
    adapters = domains()
    without_b = {name: vector for name, vector in adapters.items() if name[0] != "b"}
    b = nights.night(adapters)[1]
    dissolved = {row.cluster: row for row in nights.night(without_b)}[b.cluster]
    assert (dissolved.members, dissolved.strengths) == ([], [])
    assert dissolved.medoid is dissolved.cohesion is dissolved.silhouette is None
    assert nights.night(without_b) == []
    nights.night(adapters)
    assert nights.state()[b.cluster].members == b.members


@pytest.mark.parametrize("count", [0, 1])
def test_of_a_pool_with_fewer_than_two_adapters_no_cluster_is_left(nights, count):
    adapters = domains()
    nights.night(adapters)
    few = dict(list(adapters.items())[:count])
    assert [row.members for row in nights.night(few)] == [[], [], []]
    assert nights.state() == {}


def test_noise_alone_writes_nothing(nights):
    assert nights.night(domains(sizes=(), noise=40)) == []


def test_clusters_of_a_recipe_without_pool_dissolve(nights):
    nights.night(domains())
    assert [row.members for row in nights.night()] == [[], [], []]


def test_numbers_survive_a_new_recipe_even_while_adapters_move_to_it(nights):
    adapters = domains()
    again = {name: vector[::-1] for name, vector in adapters.items()}
    nights.night(("old", adapters))
    before = {n: row.members[0][0] for n, row in nights.state().items()}
    moved = [name for name in adapters if name[0] in "ac"]
    nights.night(
        ("old", {name: v for name, v in adapters.items() if name not in moved}),
        ("new", {name: again[name] for name in moved}),
    )
    assert {n: row.members[0][0] for n, row in nights.state().items()} == before
    assert {row.recipe_id for row in nights.state().values()} == {"old", "new"}
    nights.night(("old", {}), ("new", again))
    assert {n: row.members[0][0] for n, row in nights.state().items()} == before
    assert {row.recipe_id for row in nights.state().values()} == {"new"}


def test_other_bases_have_their_own_numbers(nights):
    nights.night(domains())
    made = nights.stored()
    update_clusters(nights.index, "org/other", [], run_id="x", now=FIRST_NIGHT)
    assert nights.stored() == made
    assert not len(nights.index.read(ClusterRow, base="org/other"))


@pytest.mark.parametrize("seed", range(3))
def test_numbers_stay_while_a_pool_grows_by_a_tenth_every_night(nights, seed):
    """Ten nights: 7% new adapters, 3% gone, bursts of copies, and a new domain on the sixth."""
    family = Family(seed)
    centers = dict(zip("abcdefgh", family.directions(8), strict=True))
    share = 1 / np.arange(1, 8)
    adapters, made = {}, Counter()

    def add(letter, vectors):
        for vector in vectors:
            made[letter] += 1
            adapters[f"{letter}/{made[letter]:03}"] = vector

    for letter, size in zip("abcdefg", (60, 30, 20, 15, 12, 10, 8), strict=True):
        add(letter, family.around(centers[letter], size))
    add("noise", family.directions(20))

    first = {}
    for night in range(10):
        nights.night(adapters)
        state = nights.state()
        for letter in "abcdefgh" if night >= 6 else "abcdefg":
            held = Counter(
                {n: sum(name[0] == letter for name in row.members) for n, row in state.items()}
            )
            ((number, inside),) = held.most_common(1)
            assert first.setdefault(letter, number) == number, (night, letter)
            assert inside > 0.7 * sum(name[0] == letter for name in adapters)
        for name in family.random.choice(list(adapters), len(adapters) * 3 // 100, replace=False):
            del adapters[name]
        for letter in family.random.choice(list("abcdefg"), 9, p=share / share.sum()):
            add(letter, family.around(centers[letter], 1))
        add("noise", family.directions(2))
        if night % 3 == 1:
            add("b", family.copies(family.around(centers["b"], 1)[0], 6))
        if night == 5:
            add("h", family.around(centers["h"], 6))
    assert len(set(first.values())) == len(first) == 8
    assert first["h"] == max(first.values())
