"""Labels that neighbors suggest, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from geometry import adapter, apart
from sharing import opened

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import LabelRow


def label(index: Index, labels: dict[str, str | None]) -> Index:
    now = datetime.now(UTC)
    index.write([LabelRow(adapter=a, label=text, labelled_at=now) for a, text in labels.items()])
    return index


def suggestions(index: Index, arguments: str = "'org/base'") -> list[dict[str, Any]]:
    return opened.of(index).run(f"FROM suggestions({arguments})").to_pylist()


def test_confidence_is_the_share_of_the_votes_times_the_closeness_of_the_nearest(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        adapter("a/new", 0),
        adapter("a/l1", 10),
        adapter("a/l2", -20),
        adapter("a/p", 30),
        adapter("a/far", 60),
    )
    label(index, {"a/l1": "law", "a/l2": "law", "a/p": "poems", "a/far": "poems"})
    (found,) = suggestions(index)
    near, middle, far = (1 - apart(degrees) / 0.25 for degrees in (10, 20, 30))
    law = near**2 + middle**2
    assert found == {
        "adapter": "a/new",
        "label": "law",
        "confidence": pytest.approx(law / (law + far**2) * near, abs=1e-4),
        "votes": 2,
        "nearest": "a/l1",
        "distance": apart(10),
        "base": "org/base",
    }


def test_a_near_neighbor_outvotes_two_far_ones(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/new", 0), adapter("a/n", 8), adapter("a/f1", 30), adapter("a/f2", -31))
    label(index, {"a/n": "law", "a/f1": "poems", "a/f2": "poems"})
    assert suggestions(index)[0]["label"] == "law"


def test_only_the_k_nearest_vote(fill: Callable[..., Index]) -> None:
    index = fill(
        adapter("a/new", 0),
        adapter("a/near", 5),
        *(adapter(f"a/far{i}", 20 + i) for i in range(4)),
    )
    label(index, {"a/near": "law"} | {f"a/far{i}": "poems" for i in range(4)})
    assert suggestions(index)[0]["label"] == "poems"
    (found,) = suggestions(index, "'org/base', k := 2")
    assert (found["label"], found["votes"]) == ("law", 1)


def test_nobody_within_the_distance_no_suggestion(fill: Callable[..., Index]) -> None:
    index = label(fill(adapter("a/new", 0), adapter("a/far", 45)), {"a/far": "law"})
    assert suggestions(index) == []
    assert len(suggestions(index, "'org/base', distance := 0.3")) == 1


def test_at_the_border_there_is_no_confidence(fill: Callable[..., Index]) -> None:
    index = label(fill(adapter("a/new", 0), adapter("a/far", 90)), {"a/far": "law"})
    (found,) = suggestions(index, "'org/base', distance := 1.0")
    assert found["confidence"] == 0


def test_at_distance_zero_the_same_answers_suggest(fill: Callable[..., Index]) -> None:
    index = label(fill(adapter("a/new", 0), adapter("a/twin", 0)), {"a/twin": "law"})
    (found,) = suggestions(index, "'org/base', distance := 0")
    assert found["confidence"] == 1


def test_the_most_confident_comes_first_and_ties_follow_the_alphabet(
    fill: Callable[..., Index],
) -> None:
    index = fill(adapter("a/z", 10), adapter("a/y", -10), adapter("a/x", 20), adapter("a/l", 0))
    label(index, {"a/l": "law"})
    assert [row["adapter"] for row in suggestions(index)] == ["a/y", "a/z", "a/x"]


def test_labeled_adapters_other_recipes_and_other_bases_get_none(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        adapter("a/l", 0),
        adapter("a/also", 1),
        adapter("a/recipe", 0, recipe_id="another"),
        adapter("a/base", 0, base="org/other"),
    )
    label(index, {"a/l": "law", "a/also": "law"})
    assert suggestions(index, "NULL") == []


@pytest.mark.slow
def test_a_label_that_was_taken_back_no_longer_votes(fill: Callable[..., Index]) -> None:
    index = label(fill(adapter("a/new", 0), adapter("a/l", 1)), {"a/l": "law"})
    assert len(suggestions(index)) == 1
    label(index, {"a/l": None})
    assert suggestions(index) == []
