"""The map from night to night: who is known stays, who is new comes near its like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from map_pools import add, clustered, map_of, names

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import MapRow
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow

SECOND = "2" * 40
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def extent(places: np.ndarray) -> float:
    return float(np.linalg.norm(places - places.mean(axis=0), axis=1).max())


def test_a_first_map_fits_its_frame_and_every_adapter_has_a_place_of_its_own(index: Index):
    deltas = clustered(60)
    deltas[10:30] = deltas[10]  # copies
    add(index, names(0, 60), deltas)
    found = map_of(index)
    places = np.array(list(found["xy"].values()))
    assert np.abs(places).max() == pytest.approx(1, abs=1e-4)
    assert len(set(found["xy"].values())) == 60
    assert {row.method for row in found["placement"].news} == {"tsne"}
    assert len({row.map_id for row in found["placement"].news}) == 1


def test_the_same_map_needs_no_new_rows(index: Index):
    add(index, names(0, 30), clustered(30))
    first, second = map_of(index), map_of(index)
    assert second["xy"] == first["xy"]
    assert second["placement"].news == []
    assert second["placement"].moved == 0


def test_new_ones_stand_among_their_like_and_nobody_moves(index: Index):
    deltas = clustered(100)
    add(index, names(0, 100), deltas)
    first = map_of(index)
    add(index, names(100, 116), clustered(16, seed=1))
    add(index, ["a/copy"], deltas[:1])
    second = map_of(index)
    assert {name: second["xy"][name] for name in first["xy"]} == first["xy"]
    assert second["placement"].moved == 0
    assert {row.method for row in second["placement"].news} == {"neighbors"}
    for number in range(16):
        cluster = np.array([first["xy"][name] for name in names(0, 100)[number % 4 :: 4]])
        away = np.array(second["xy"][f"a/{100 + number:05}"]) - cluster.mean(axis=0)
        assert np.linalg.norm(away) <= extent(cluster) * 1.1
    beside = np.subtract(second["xy"]["a/copy"], second["xy"]["a/00000"])
    assert 0 < np.linalg.norm(beside) < 0.05
    assert map_of(index)["xy"] == second["xy"]


def test_what_is_new_together_stays_together(index: Index):
    add(index, names(0, 100), clustered(100))
    map_of(index)
    alike = clustered(50, clusters=50, spread=0)[49] + 0.05 * clustered(10, seed=3)
    add(index, names(100, 110), alike.astype(np.float32))
    places = np.array([map_of(index)["xy"][name] for name in names(100, 110)])
    assert extent(places) < 0.05


def test_with_many_new_ones_all_is_laid_out_anew_and_looks_as_before(index: Index):
    add(index, names(0, 120), clustered(120))
    first = map_of(index)
    add(index, names(120, 200), clustered(80, seed=2))
    second = map_of(index)
    assert {row.method for row in second["placement"].news} == {"tsne"}
    assert len(second["placement"].news) == 200
    before = np.array(list(first["xy"].values()))
    after = np.array([second["xy"][name] for name in first["xy"]])
    assert 0 < second["placement"].moved <= 120
    for axis in (0, 1):
        assert np.corrcoef(before[:, axis], after[:, axis])[0, 1] > 0.9
    assert np.abs(list(second["xy"].values())).max() <= 1
    assert map_of(index)["xy"] == second["xy"]


def test_a_map_grows_by_neighbors_only_so_long(index: Index):
    add(index, names(0, 80), clustered(80))
    map_ids = [map_of(index)["placement"].news[0].map_id]
    for night in range(4):
        start = 80 + 8 * night
        add(index, names(start, start + 8), clustered(8, seed=night + 5))
        map_ids.append(map_of(index)["placement"].news[0].map_id)
    assert map_ids[0] == map_ids[1] == map_ids[2] != map_ids[3]
    assert map_ids[3] == map_ids[4]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_small_pools_grow_one_by_one(index: Index, n):
    for number in range(n):
        add(index, names(number, number + 1), clustered(number + 1)[-1:])
        found = map_of(index)
        assert len(set(found["xy"].values())) == number + 1
        assert np.abs(list(found["xy"].values())).max() <= 1


def test_those_who_have_left_are_not_on_the_map_and_come_back_to_their_place(index: Index):
    add(index, names(0, 30), clustered(30))
    first = map_of(index)
    # Embedded for another commit of the base since, which makes vectors of another recipe.
    then = datetime(2026, 11, 20, tzinfo=UTC)
    add(index, ["a/00003"], clustered(1), recipe_id="other", embedded_at=then)
    without = map_of(index)
    assert without["xy"] == {k: xy for k, xy in first["xy"].items() if k != "a/00003"}
    add(index, ["a/00003"], clustered(4)[3:], embedded_at=then + timedelta(days=1))
    assert map_of(index)["xy"] == first["xy"]


def test_one_that_has_changed_is_put_where_it_belongs_now(index: Index):
    deltas = clustered(60)
    add(index, names(0, 60), deltas)
    first = map_of(index)
    add(index, ["a/00000"], deltas[1:2], revision=SECOND, crawled_at=LATER, embedded_at=LATER)
    second = map_of(index)
    (row,) = second["placement"].news
    assert (row.adapter, row.revision, second["placement"].moved) == ("a/00000", SECOND, 1)
    beside = np.subtract(second["xy"]["a/00000"], first["xy"]["a/00001"])
    assert np.linalg.norm(beside) < 0.05
    with connect(index) as queries:
        (shown,) = queries.run("SELECT x, y FROM maps WHERE adapter = 'a/00000'").to_pylist()
    assert (shown["x"], shown["y"]) == second["xy"]["a/00000"]


def test_the_view_shows_the_newest_map_of_each_recipe(index: Index):
    def row(**changes) -> MapRow:
        return MapRow(
            **{
                "base": "org/base", "recipe_id": "recipe", "map_id": "1", "adapter": "a/b",
                "revision": "0" * 40, "x": 0.0, "y": 0.0, "method": "tsne", "placed_at": LATER,
            }
            | changes
        )  # fmt: skip

    index.write(
        [row(), row(adapter="a/gone"), row(map_id="2", x=0.5), row(recipe_id="other", y=0.25)],
        base="org/base",
    )
    moved = row(map_id="2", x=0.75, revision=SECOND, placed_at=LATER + timedelta(days=1))
    index.write([moved], base="org/base")
    with connect(index) as queries:
        found = queries.run("SELECT recipe_id, adapter, x, y FROM maps ORDER BY ALL").to_pylist()
    assert [tuple(one.values()) for one in found] == [
        ("other", "a/b", 0.0, 0.25),
        ("recipe", "a/b", 0.75, 0.0),
    ]
