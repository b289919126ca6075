"""The questions about two adapters, the farthest ones, and what came in, in known geometry."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry import adapter, apart, at, write_pairs
from rows import catalog_row, failure_row, vector_row
from sharing import copy_of, opened

from hubdelta.schemas.errors import QueryError, UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import Queries
from hubdelta.sql.questions.answers import between, compare, new_since, outliers
from hubdelta.sql.script import write_script

Fill = Callable[..., Index]

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 20, 3, tzinfo=UTC)
OLD = "9" * 40


def ask(index: Index, query: str, *parameters: object) -> list[dict[str, Any]]:
    return list(opened.of(index, linked=True).run(query, parameters).to_pylist())


def column(index: Index, query: str, *parameters: object) -> list[object]:
    return [next(iter(row.values())) for row in ask(index, query, *parameters)]


def side_by_side(index: Index, a: str, b: str) -> dict[str, tuple[str | None, str | None]]:
    rows = ask(index, "FROM compare(?, ?)", a, b)
    return {row["property"]: (row["a"], row["b"]) for row in rows}


def named(text: str) -> AdapterName:
    """An adapter as a person writes it."""
    return AdapterName.parse(text, must_exist=False)


@pytest.fixture(scope="module")
def whole_fan(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Adapters at 0, 10, 40, 50, 90 and 180 degrees, to be read only."""
    index = write_pairs(
        Index.create(tmp_path_factory.mktemp("fan") / "index"),
        adapter("a/zero", 0, downloads=7, license="mit", datasets=["org/x", "org/y"]),
        adapter("a/ten", 10),
        adapter("a/forty", 40, license="mit"),
        adapter("a/fifty", 50, downloads=3),
        adapter("a/ninety", 90, subfolder="x"),
        adapter("a/opposite", 180),
    )
    cache.refresh(index)
    return index


@pytest.fixture
def fan(whole_fan: Index, tmp_path: Path) -> Index:
    """The same adapters in an index of the test's own."""
    return copy_of(whole_fan, tmp_path / "index")


class TestBetween:
    def test_nearest_to_the_sum_come_first_without_the_two(self, whole_fan: Index) -> None:
        rows = ask(whole_fan, "FROM \"between\"('a/zero', 'a/ninety/x')")
        assert [row["adapter"] for row in rows] == ["a/fifty", "a/forty", "a/ten", "a/opposite"]
        first = rows[0]
        assert first["similarity"] == round(1 - apart(5), 6)
        assert first["distance"] == apart(5)
        assert (first["to_a"], first["to_b"]) == (1 - apart(50), 1 - apart(40))
        assert (first["signal"], first["downloads"], first["base"]) == (1000.0, 3, "org/base")

    def test_equally_near_ones_follow_the_alphabet_and_k_limits(self, fan: Index) -> None:
        query = "FROM \"between\"('a/forty', 'a/fifty', k := ?)"
        fan.write([catalog_row(repo_id="a/a-eighty")], base="org/base")
        fan.write([vector_row(repo_id="a/a-eighty", delta=at(80))], base="org/base")
        assert column(fan, query, 2) == ["a/a-eighty", "a/ten"]

    def test_the_longer_of_the_two_weighs_more(self, fill: Fill) -> None:
        index = fill(adapter("a/one", 0), adapter("a/low", 20), adapter("a/high", 70))
        index.write(
            [vector_row(repo_id="a/long", delta=at(90, length=3), norm=3.0)], base="org/base"
        )
        (first, _) = ask(index, "FROM \"between\"('a/one', 'a/long')")
        assert first["adapter"] == "a/high"
        assert first["similarity"] == pytest.approx(
            np.cos(np.radians(70) - np.arctan2(3, 1)), abs=2e-6
        )

    def test_opposites_have_no_sum(self, whole_fan: Index) -> None:
        assert column(whole_fan, "FROM \"between\"('a/zero', 'a/opposite')") == []

    def test_a_sum_within_the_noise_of_the_two_has_no_direction(self, fill: Fill) -> None:
        """Both noise floors are .001, and the two leave .0017 of each other, or .0052."""
        index = fill(adapter("a/x", 5), adapter("a/y", 180.1), adapter("a/z", 180.3))
        index.write([vector_row(repo_id="a/x0", delta=at(0))], base="org/base")
        assert column(index, "FROM \"between\"('a/x0', 'a/y')") == []
        assert len(column(index, "FROM \"between\"('a/x0', 'a/z')")) == 2

    def test_it_stays_in_the_latest_common_recipe(self, fill: Fill) -> None:
        index = fill(
            adapter("a/x", 0), adapter("a/y", 90), adapter("a/near", 45), adapter("a/off", 0)
        )
        for repo_id, degrees in [("a/x", 0), ("a/y", 10), ("a/off", 5)]:
            index.write(
                [vector_row(repo_id=repo_id, delta=at(degrees), recipe_id="z", embedded_at=LATER)],
                base="org/base",
            )
        assert column(index, "FROM \"between\"('a/x', 'a/y')") == ["a/off"]
        assert column(index, "FROM \"between\"('a/x', 'a/near')") == ["a/off", "a/y"]

    def test_what_cannot_be_compared_has_no_sum(self, fill: Fill) -> None:
        index = fill(
            adapter("a/me", 0),
            adapter("a/near", 5),
            adapter("a/recipe", 1, recipe_id="another"),
            adapter("a/base", 1, base="org/other"),
        )
        for other in ("a/recipe", "a/base", "no/such"):
            assert column(index, 'FROM "between"(?, ?)', "a/me", other) == []

    def test_other_revisions_of_the_two_are_excluded_and_never_rank(self, fan: Index) -> None:
        fan.write([vector_row(repo_id="a/ten", revision=OLD, delta=at(26))], base="org/base")
        assert column(fan, "FROM \"between\"('a/zero', 'a/fifty', k := 1)") == ["a/forty"]
        near = column(fan, f"FROM \"between\"('a/ten@{OLD}', 'a/zero')")
        assert near[0] == "a/forty"
        assert "a/ten" not in near

    def test_python_tells_why_there_is_no_answer(self, fan: Index) -> None:
        fan.write([vector_row(repo_id="b/else", base="org/other")], base="org/other")
        fan.write([catalog_row(repo_id="a/zilch")], base="org/base")
        fan.write([vector_row(repo_id="a/zilch", delta=np.zeros(2, np.float32))], base="org/base")
        queries = opened.of(fan)
        assert between(queries, named("a/zero"), named(" a/forty "), 1)["adapter"].to_pylist() == [
            "a/ten"
        ]
        for other, why in [
            ("a/opposite", "they are opposites"),
            ("b/else", "their bases differ"),
            ("a/zilch", "without direction"),
            ("a/zeros", "no adapter a/zeros in the index; did you mean a/zero"),
        ]:
            with pytest.raises(QueryError, match=why):
                between(queries, named("a/zero"), named(other))
        with pytest.raises(UsageError, match="from 1 to"):
            between(queries, named("a/zero"), named("a/ten"), 0)


class TestOutliers:
    def test_the_most_lonely_come_first(self, whole_fan: Index) -> None:
        rows = ask(whole_fan, "FROM outliers('org/base')")
        assert [(row["adapter"], row["nearest"], row["distance"]) for row in rows] == [
            ("a/opposite", "a/ninety/x", 1.0),
            ("a/ninety/x", "a/fifty", apart(40)),
            ("a/fifty", "a/forty", apart(10)),
            ("a/forty", "a/fifty", apart(10)),
            ("a/ten", "a/zero", apart(10)),
            ("a/zero", "a/ten", apart(10)),
        ]
        assert (rows[1]["repo_id"], rows[1]["subfolder"]) == ("a/ninety", "x")
        assert (rows[2]["norm"], rows[2]["adapter_type"], rows[2]["downloads"]) == (1.0, "LORA", 3)
        assert column(whole_fan, "FROM outliers(NULL, k := 1)") == ["a/opposite"]

    def test_each_distance_is_that_of_the_nearest_neighbor(self, index: Index) -> None:
        rng = np.random.default_rng(5)
        index.write(
            [
                vector_row(repo_id=f"a/{i}", delta=rng.normal(size=8).astype(np.float32))
                for i in range(12)
            ],
            base="org/base",
        )
        for row in ask(index, "FROM outliers(NULL, k := 100)"):
            (near,) = ask(index, "FROM neighbors(?, k := 1)", row["adapter"])
            assert (row["nearest"], row["distance"]) == (near["adapter"], near["distance"])

    def test_of_equally_near_ones_the_first_of_the_alphabet_is_named(self, fill: Fill) -> None:
        index = fill(adapter("a/me", 0), adapter("a/right", 30), adapter("a/left", -30))
        assert ask(index, "SELECT nearest FROM outliers(NULL) WHERE adapter = 'a/me'") == [
            {"nearest": "a/left"}
        ]

    def test_only_what_has_another_to_be_far_from(self, fan: Index) -> None:
        fan.write(
            [
                vector_row(repo_id="a/nothing", delta=np.zeros(2, np.float32)),
                vector_row(repo_id="a/noise", delta=at(120), signal=0.9),
                vector_row(repo_id="a/alone", recipe_id="another"),
            ],
            base="org/base",
        )
        found = column(fan, "FROM outliers(NULL, k := 100)")
        assert len(found) == 6
        assert not {"a/nothing", "a/noise", "a/alone"} & set(found)

    def test_bases_do_not_mix(self, fill: Fill) -> None:
        index = fill(
            adapter("a/x", 0),
            adapter("a/y", 50),
            adapter("b/x", 0, base="org/other"),
            adapter("b/y", 60, base="org/other"),
        )
        assert column(index, "FROM outliers('org/base')") == ["a/x", "a/y"]
        assert column(index, "FROM outliers(NULL)") == ["b/x", "b/y", "a/x", "a/y"]
        queries = opened.of(index, linked=True)
        assert outliers(queries, k=1)["adapter"].to_pylist() == ["b/x"]
        with pytest.raises(QueryError, match="no base org/nope"):
            outliers(queries, "org/nope")
        with pytest.raises(UsageError, match="from 1 to"):
            outliers(queries, k=0)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An old adapter, one whose repository changed, two new ones, one that was long pending.

    It is to be read only.
    """
    index = write_pairs(
        Index.create(tmp_path_factory.mktemp("grown") / "index"),
        adapter("a/old", 0),
        adapter("a/changed", 10, revision=OLD),
        adapter("a/new", 20, crawled_at=LATER, embedded_at=LATER + timedelta(hours=1)),
        adapter("a/waited", 30, embedded_at=LATER),
    )
    index.write(
        [
            catalog_row(repo_id="a/changed", revision="8" * 40, crawled_at=LATER),
            catalog_row(repo_id="a/failed", crawled_at=LATER),
            catalog_row(repo_id="a/mirror", kind="mirror", crawled_at=LATER),
            catalog_row(repo_id="a/old", downloads=99, crawled_at=LATER),
        ],
        base="org/base",
    )
    index.write([failure_row(repo_id="a/failed", reason="gated")], base="org/base")
    return index


class TestNewSince:
    def test_what_came_in_or_changed_newest_first(self, grown: Index) -> None:
        rows = ask(grown, "FROM new_since('2026-11-20')")
        assert [(row["adapter"], row["change"], row["status"], row["reason"]) for row in rows] == [
            ("a/new", "new", "embedded", None),
            ("a/changed", "updated", "pending", None),
            ("a/failed", "new", "failed", "gated"),
            ("a/waited", "embedded", "embedded", None),
        ]
        assert rows[0]["seen_at"] == LATER
        assert rows[0]["embedded_at"] == LATER + timedelta(hours=1)
        assert (rows[3]["seen_at"], rows[3]["embedded_at"]) == (FIRST, LATER)
        assert (rows[2]["embedded_at"], rows[2]["cluster"], rows[2]["author"]) == (None, None, "a")

    @pytest.mark.parametrize(
        "since",
        ["DATE '2026-11-20'", "TIMESTAMP '2026-11-20 03:00'", "'2026-11-20 04:00:00+01'"],
    )
    def test_a_day_or_a_moment_and_that_moment_itself_counts(
        self, grown: Index, since: str
    ) -> None:
        assert len(column(grown, f"FROM new_since({since})")) == 4

    def test_long_ago_everything_was_new(self, grown: Index) -> None:
        changes = ask(grown, "SELECT adapter, change FROM new_since('2020-01-01')")
        assert {row["change"] for row in changes} == {"new"}
        assert [row["adapter"] for row in changes][-1] == "a/old"
        assert len(changes) == 5

    def test_a_vector_of_another_recipe_is_no_news(self, grown: Index, tmp_path: Path) -> None:
        index = copy_of(grown, tmp_path / "index")
        index.write(
            [vector_row(repo_id="a/old", recipe_id="another", embedded_at=LATER)], base="org/base"
        )
        assert "a/old" not in column(index, "FROM new_since('2026-11-20')")

    def test_python_takes_days_times_and_text(self, grown: Index) -> None:
        queries = opened.of(grown)
        for since in (date(2026, 11, 20), LATER, "2026-11-20"):
            assert len(new_since(queries, since)) == 4
        assert len(new_since(queries, LATER + timedelta(minutes=1))) == 1
        assert len(new_since(queries, date(2026, 12, 1))) == 0
        with pytest.raises(QueryError, match="yesterday"):
            new_since(queries, "yesterday")


class TestCompare:
    def test_distance_and_metadata_of_the_two(self, whole_fan: Index) -> None:
        found = side_by_side(whole_fan, "a/zero", "a/forty")
        assert found["similarity"] == ("0.766044", "0.766044")
        assert found["distance"] == ("0.233956", "0.233956")
        assert found["angle_degrees"] == ("40", "40")
        assert found["comparable"] == ("yes", "yes")
        assert found["license"] == ("mit", "mit")
        assert found["downloads"] == ("7", "0")
        assert found["datasets"] == ("org/x, org/y", None)
        assert found["signal"] == ("1000", "1000")
        assert found["created_at"] == ("2026-11-01 00:00 UTC",) * 2
        assert list(found)[:4] == ["comparable", "similarity", "distance", "angle_degrees"]

    @pytest.mark.slow
    def test_shared_neighbors_are_those_near_to_both(self, fill: Fill) -> None:
        """Of 24 adapters a degree apart, each has the next five on either side, or more inwards."""
        index = fill(*(adapter(f"a/{i:02}", i) for i in range(24)))
        queries = opened.of(index)
        found = compare(queries, named("a/10"), named("a/14"))
        assert len(compare(queries, named("a/00"), named("a/23")).shared) == 0
        names = found.shared["adapter"].to_pylist()
        assert set(names) == {"a/09", "a/11", "a/12", "a/13", "a/15"}
        assert names[:3] == ["a/12", "a/11", "a/13"]
        assert found.shared["distance_to_a"].to_pylist()[1] == apart(1)
        assert found.shared["distance_to_b"].to_pylist()[1] == apart(3)
        rows = side_by_side(index, "a/10", "a/14")
        assert rows["shared_neighbors"] == ("5", "5")
        assert rows["shared_neighbor_names"] == (", ".join(names),) * 2

    @pytest.mark.slow
    def test_of_an_unknown_adapter_there_is_no_row(
        self, fan: Index, over_parquet: Callable[[Index], Queries]
    ) -> None:
        for a, b in [("a/zero", "a/nobody"), ("a/nobody", "a/zero"), ("a/nobody", "b/nobody")]:
            assert len(opened.of(fan).run("FROM compare(?, ?)", [a, b])) == 0
        assert len(over_parquet(fan).run("FROM compare('a/zero', 'a/nobody')")) == 0

    def test_other_bases_and_recipes_are_told(self, fan: Index) -> None:
        fan.write([catalog_row(repo_id="b/else", base="org/other")], base="org/other")
        fan.write([vector_row(repo_id="b/else", base="org/other")], base="org/other")
        fan.write([vector_row(repo_id="a/recipe", recipe_id="another")], base="org/base")
        found = side_by_side(fan, "a/zero", "b/else")
        assert found["comparable"] == ("no: their bases differ",) * 2
        assert found["similarity"] == found["distance"] == found["angle_degrees"] == (None, None)
        assert found["base"] == ("org/base", "org/other")
        assert found["shared_neighbors"] == ("0", "0")
        assert (
            side_by_side(fan, "a/recipe", "a/zero")["comparable"][0] == "no: their recipes differ"
        )
        answer = compare(opened.of(fan), named("a/zero"), named("b/else"))
        assert (answer.similarity, answer.obstacle) == (None, "their bases differ")

    @pytest.mark.slow
    def test_the_vectors_shown_are_of_the_common_recipe(self, fan: Index) -> None:
        fan.write(
            [
                vector_row(
                    repo_id="a/zero", recipe_id="another", rank=64, embedded_at=LATER, norm=9.0
                )
            ],
            base="org/base",
        )
        found = side_by_side(fan, "a/zero", "a/ten")
        assert (found["rank"], found["recipe_id"]) == (("8", "8"), ("recipe", "recipe"))
        fan.write([catalog_row(repo_id="a/listed")], base="org/base")
        assert side_by_side(fan, "a/zero", "a/listed")["rank"] == ("64", None)

    def test_of_two_bases_the_common_one_is_shown(self, fill: Fill) -> None:
        index = fill(
            adapter("a/both", 0),
            adapter("a/both", 0, base="org/zzz", embedded_at=LATER, downloads=5),
            adapter("a/one", 30),
        )
        found = side_by_side(index, "a/both", "a/one")
        assert found["base"] == ("org/base", "org/base")
        assert found["downloads"] == ("0", "0")
        assert found["angle_degrees"] == ("30", "30")

    def test_a_given_revision_shows_its_own_vector(self, fan: Index) -> None:
        fan.write(
            [vector_row(repo_id="a/zero", revision=OLD, delta=at(60), rank=4)], base="org/base"
        )
        found = side_by_side(fan, f"a/zero@{OLD}", "a/zero")
        assert found["angle_degrees"][0] == "60"
        assert (found["rank"], found["revision"]) == (("4", "8"), (OLD, "0" * 40))
        assert found["license"] == ("mit", "mit")

    def test_adapters_without_a_vector_still_show_what_is_known(self, fan: Index) -> None:
        fan.write([catalog_row(repo_id="a/gated", likes=4)], base="org/base")
        fan.write([failure_row(repo_id="a/gated", reason="gated", message="ask")], base="org/base")
        fan.write([catalog_row(repo_id="a/nil")], base="org/base")
        fan.write(
            [vector_row(repo_id="a/nil", delta=np.zeros(2, np.float32), norm=0.0, signal=0.0)],
            base="org/base",
        )
        found = side_by_side(fan, "a/gated", "a/nil")
        assert found["comparable"][0] == "no: not both have a vector with a direction"
        assert found["status"] == ("failed: gated", "embedded")
        assert (found["likes"], found["norm"]) == (("4", "0"), (None, "0"))
        answer = compare(opened.of(fan), named("a/gated"), named("a/nil"))
        assert answer.obstacle is not None
        assert "a/gated has no vector (gated): ask; a/nil has a vector without" in answer.obstacle

    def test_an_unknown_adapter_is_an_error_with_a_proposal(self, whole_fan: Index) -> None:
        queries = opened.of(whole_fan)
        with pytest.raises(QueryError, match="no adapter a/tem in the index; did you mean"):
            compare(queries, named("a/zero"), named("a/tem"))
        with pytest.raises(QueryError, match="the index knows it at 0000"):
            compare(queries, named(f"a/ten@{OLD}"), named("a/zero"))

    def test_an_adapter_beside_itself(self, whole_fan: Index) -> None:
        found = side_by_side(whole_fan, "a/ten", "a/ten")
        assert (found["distance"], found["angle_degrees"]) == (("0", "0"), ("0", "0"))
        assert found["shared_neighbors"] == ("5", "5")


@pytest.mark.slow
@pytest.mark.parametrize("changes", ["whole_fan", "grown", "empty"])
def test_plain_duckdb_gives_the_answers_of_our_connection(
    changes: str, request: pytest.FixtureRequest, tmp_path: Path, ask: Callable[..., list[Any]]
) -> None:
    index = request.getfixturevalue(changes)
    questions = [
        "FROM \"between\"('a/zero', 'a/ninety/x', k := 3)",
        "FROM outliers(NULL)",
        "FROM outliers('org/base', k := 2)",
        "FROM new_since('2026-11-20 00:00:00+00')",
        "FROM new_since(TIMESTAMPTZ '2020-01-01 00:00:00+00')",
        "FROM compare('a/zero', 'a/forty')",
        "FROM compare('a/old', 'no/such')",
    ]
    theirs = ask(write_script(copy_of(index, tmp_path / "copy")), questions)
    ours = [opened.of(index).run(question).to_pylist() for question in questions]
    for question, plain, own in zip(questions, theirs, ours, strict=True):
        assert plain == json.loads(json.dumps(own, default=str)), question


def test_a_name_is_a_value_and_never_sql(whole_fan: Index) -> None:
    evil = "x' OR adapter <> '"
    assert column(whole_fan, 'FROM "between"(?, ?)', evil, "a/zero") == []
    assert side_by_side(whole_fan, evil, evil) == {}
    assert column(whole_fan, "FROM outliers(?)", evil) == []
