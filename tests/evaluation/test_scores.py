"""Scores of a space, beside those counted by hand."""

import numpy as np
import pytest

from hubdelta.evaluation.scores import rand_index, retrieval, score


def cosines_of(seed: int, n: int = 24, labels: int = 4, spread: float = 0.6):
    random = np.random.default_rng(seed)
    own = np.arange(n) % labels
    vectors = random.normal(size=(labels, 16))[own] + spread * random.normal(size=(n, 16))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units @ units.T, own


def by_definition(distances, labels) -> np.ndarray:
    """Rousseeuw's silhouette of each adapter, in plain loops."""
    found = []
    for place, label in enumerate(labels):
        means = {
            other: np.mean(
                [distances[place, at] for at in np.flatnonzero(labels == other) if at != place]
            )
            for other in set(labels)
        }
        inside, outside = means.pop(label), min(means[other] for other in means)
        found.append((outside - inside) / max(inside, outside))
    return np.array(found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 0.6, 3.0])
def test_silhouettes_are_those_of_their_definition(seed, spread):
    cosines, labels = cosines_of(seed, spread=spread)
    scores = score(cosines, [str(label) for label in labels])
    for found, distances in (
        (scores.silhouette, np.clip(1 - cosines, 0, 1)),
        (scores.silhouette_halved, (1 - cosines) / 2),
    ):
        expected = np.mean(by_definition(distances, labels))
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.low <= found.value <= found.high
    clipped = by_definition(np.clip(1 - cosines, 0, 1), labels)
    for label, value in scores.by_label.items():
        assert value == pytest.approx(np.mean(clipped[labels == int(label)]), abs=1e-12)


def test_intervals_are_the_same_each_time_and_narrow_where_labels_are_clear():
    clear, labels = cosines_of(2, spread=0.05)
    vague, _ = cosines_of(2, spread=3.0)
    names = [str(label) for label in labels]
    assert score(vague, names) == score(vague, names)
    tight, wide = score(clear, names).silhouette, score(vague, names).silhouette
    assert tight.high - tight.low < wide.high - wide.low


def test_retrieval_counts_nearest_neighbors_of_the_same_label():
    cosines = np.array(
        [[1, 0.9, 0.1, 0], [0.9, 1, 0.2, 0], [0.1, 0.2, 1, 0.1], [0, 0, 0.1, 1]], float
    )
    assert retrieval(cosines, np.array([0, 0, 1, 1])) == 0.75


def test_equally_near_neighbors_count_in_part():
    assert retrieval(np.eye(4), np.array([0, 0, 1, 1])) == pytest.approx(1 / 3)


def test_the_rand_index_is_that_of_groups_joined_at_the_distance():
    cosines = np.eye(4)
    cosines[0, 1] = cosines[1, 0] = 0.8
    cosines[2, 3] = cosines[3, 2] = 0.7
    labels = np.array([0, 0, 1, 1])
    assert rand_index(cosines, labels, 0.35) == 1
    assert rand_index(cosines, labels, 0.25) == pytest.approx(0.571, abs=1e-3)
    assert rand_index(np.ones((4, 4)), labels) == 0
