"""Domains: components, their order and their central members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry import adapter, apart, at
from rows import catalog_row, vector_row
from sharing import opened

from hubdelta.schemas.index import Index


def domains(index: Index, base: str | None = "org/base", distance: float = 0.25) -> list[Any]:
    queries = opened.of(index, linked=True)
    return queries.run("FROM domains(?, distance := ?)", [base, distance]).to_pylist()


def test_a_chain_of_near_neighbors_is_one_domain(fill: Callable[..., Index]) -> None:
    index = fill(*(adapter(f"a/{i:02}", 25 * i) for i in range(12)))
    (domain,) = domains(index, distance=apart(25))
    assert domain["size"] == 12
    assert domain["members"] == [f"a/{i:02}" for i in range(12)]
    assert len(domains(index, distance=apart(24))) == 12


def test_a_long_chain_in_no_order_is_one_domain(index: Index) -> None:
    # Neighbors along a path through 60 dimensions: the label has to travel the whole way.
    order = np.random.default_rng(0).permutation(60)
    index.write([catalog_row(repo_id=f"a/{i}") for i in order], base="org/base")
    rows = []
    for i in order:
        delta = np.zeros(61, np.float32)
        delta[[i, i + 1]] = 1.0
        rows.append(vector_row(repo_id=f"a/{i}", delta=delta))
    index.write(rows, base="org/base")
    (domain,) = domains(index, distance=0.5)
    assert domain["size"] == 60
    assert len(domains(index, distance=0.49)) == 60


def test_the_largest_domain_is_the_first_and_equal_ones_follow_the_alphabet(
    fill: Callable[..., Index],
) -> None:
    index = fill(
        adapter("z/one", 0),
        adapter("z/two", 5),
        adapter("z/three", 10),
        adapter("m/one", 90),
        adapter("m/two", 95),
        adapter("b/one", 180),
        adapter("b/two", 185),
        adapter("a/alone", 270),
    )
    found = domains(index)
    assert [domain["domain"] for domain in found] == [1, 2, 3, 4]
    assert [domain["members"][0] for domain in found] == ["z/one", "b/one", "m/one", "a/alone"]
    assert [domain["size"] for domain in found] == [3, 2, 2, 1]


def test_the_central_member_is_nearest_to_the_others_whatever_its_length(index: Index) -> None:
    angles = {"a/left": 0, "a/middle": 22, "a/right": 40}
    index.write([catalog_row(repo_id=name) for name in angles], base="org/base")
    index.write(
        [
            vector_row(repo_id=name, delta=at(degrees, 100.0 if name == "a/left" else 1.0))
            for name, degrees in angles.items()
        ],
        base="org/base",
    )
    assert domains(index)[0]["central"] == "a/middle"


def test_of_two_members_the_first_is_central(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/b", 3.3), adapter("a/a", 11.7))
    assert domains(index)[0]["central"] == "a/a"


def test_other_recipes_are_other_domains(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/a", 0), adapter("a/b", 0, recipe_id="another"))
    assert [domain["size"] for domain in domains(index)] == [1, 1]


def test_every_base_has_its_own_numbers(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/a", 0), adapter("b/b", 0, base="org/other"))
    assert [(d["base"], d["domain"]) for d in domains(index, None)] == [
        ("org/base", 1),
        ("org/other", 1),
    ]
    assert domains(index, "no/base") == []


def test_an_adapter_outside_the_catalog_still_has_a_domain(index: Index) -> None:
    index.write([vector_row(repo_id="a/poems")], base="org/base")
    assert [(d["name"], d["size"]) for d in domains(index)] == [("poems", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_domains_do_not_depend_on_the_order_of_the_files(
    fill: Callable[..., Index], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    adapters = [
        adapter(f"a/{i:02}", float(angle), tags=[f"t{i % 3}", "x"])
        for i, angle in enumerate(np.random.default_rng(7).uniform(0, 360, 40))
    ]
    for i in rng.permutation(len(adapters)):
        index = fill(adapters[i])
    found = domains(index, distance=0.002)
    rows = [(d["domain"], d["name"], d["size"], d["central"], *d["members"]) for d in found]
    reference = _components([float(a) for a in np.random.default_rng(7).uniform(0, 360, 40)], 0.002)
    assert [list(row[4:]) for row in rows] == reference
    assert len({row[0] for row in rows}) == len(rows)


def _components(angles: list[float], distance: float) -> list[list[str]]:
    """Components by hand: repeated merging of groups, then by size and first member."""
    vectors = [at(angle).astype(float) for angle in angles]
    groups = [{i} for i in range(len(angles))]
    for i, x in enumerate(vectors):
        for j, y in enumerate(vectors[:i]):
            if round(1 - round(float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)), 6), 6) <= (
                distance
            ):
                one = next(group for group in groups if i in group)
                two = next(group for group in groups if j in group)
                if one is not two:
                    groups.remove(two)
                    one |= two
    named = [sorted(f"a/{i:02}" for i in group) for group in groups]
    return sorted(named, key=lambda members: (-len(members), members[0]))
