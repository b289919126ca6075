"""Which cluster keeps its number, and which gets a new one."""

from __future__ import annotations

from datetime import UTC, datetime

from hubdelta.clusters.identity import Found, number
from hubdelta.schemas.rows import ClusterRow


def row(cluster, members, recipe_id="r"):
    return ClusterRow(
        base="org/base",
        recipe_id=recipe_id,
        cluster=cluster,
        members=list(members),
        strengths=[1.0] * len(members),
        medoid=min(members, default=None),
        cohesion=None,
        silhouette=None,
        clustered_at=datetime(2026, 11, 1, tzinfo=UTC),
        run_id="run",
    )


def numbers(found, past, gone=""):
    """The numbers of clusters, given as strings of one-letter names, or as (recipe, names)."""
    pairs = [("r", one) if isinstance(one, str) else one for one in found]
    clusters = [Found(recipe, frozenset(names), min(names)) for recipe, names in pairs]
    present = {name for r in past for name in r.members}.union(*(c.members for c in clusters))
    return number(clusters, past, frozenset(present - set(gone)))


def test_the_first_clusters_are_numbered_by_size_and_then_by_medoid():
    assert numbers(["uvw", "efgh", "abc"], []) == [3, 1, 2]


def test_a_cluster_that_grows_or_shrinks_keeps_its_number():
    past = [row(4, "abcdef"), row(7, "uvwxyz")]
    assert numbers(["uvwxyzklmnopq", "abc"], past) == [7, 4]


def test_new_numbers_come_after_all_that_ever_were():
    past = [row(3, "abc"), row(9, "xyz"), row(9, "")]
    assert numbers(["abc", "mno", "ijkl"], past) == [3, 11, 10]


def test_the_larger_part_of_a_split_keeps_the_number():
    assert numbers(["ab", "cdefg"], [row(1, "abcdefg")]) == [2, 1]


def test_the_largest_of_three_parts_keeps_the_number_without_a_majority():
    assert numbers(["abc", "defg", "hij"], [row(1, "abcdefghij")]) == [2, 1, 3]


def test_of_equal_parts_the_first_by_name_keeps_the_number():
    assert numbers(["def", "abc"], [row(1, "abcdef")]) == [2, 1]
    assert numbers(["abc", "def"], [row(1, "abcdef")]) == [1, 2]


def test_in_a_merge_the_larger_one_gives_the_number():
    assert numbers(["abcdefghi"], [row(1, "abc"), row(2, "defghi")]) == [2]


def test_of_equal_ones_that_merge_the_older_gives_the_number():
    assert numbers(["abcdef"], [row(2, "abc"), row(1, "def")]) == [1]


def test_some_members_of_many_do_not_make_it_the_same_cluster():
    assert numbers(["abuvwxyz"], [row(1, "abcde")]) == [2]


def test_half_of_the_members_are_not_enough():
    assert numbers(["abwxyz"], [row(1, "abcd")]) == [2]


def test_adapters_that_are_gone_do_not_count():
    past = [row(1, "abcdefgh")]
    assert numbers(["abuvw"], past, gone="cdefgh") == [1]
    assert numbers(["abuvw"], past) == [2]


def test_a_dissolved_cluster_gets_its_number_back():
    past = [row(1, "abcd"), row(1, "")]
    assert numbers(["abcde"], past) == [1]


def test_a_dissolved_cluster_does_not_come_back_as_a_part_of_another():
    past = [row(1, "abc"), row(1, "")]
    assert numbers(["abcuvwxyz"], past) == [2]


def test_a_dissolved_cluster_does_not_take_the_place_of_one_that_is():
    past = [row(1, "abcdef"), row(1, ""), row(2, "abcxy")]
    assert numbers(["abcdef"], past) == [2]


def test_a_number_whose_members_cannot_be_read_is_not_used_again():
    assert numbers(["abc"], [row(5, "")]) == [6]


def test_numbers_follow_the_members_to_another_recipe():
    past = [row(1, "abcdef", "old")]
    assert numbers([("old", "ab"), ("new", "cdef")], past) == [2, 1]
    assert numbers([("new", "abcdef")], past) == [1]


def test_recipes_with_the_same_adapters_do_not_take_each_others_numbers():
    past = [row(1, "abcdef", "one"), row(2, "abcdefgh", "two")]
    assert numbers([("two", "abcdef"), ("one", "abcdefgh")], past) == [2, 1]
