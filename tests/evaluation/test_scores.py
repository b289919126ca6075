"""Scores of a space, beside scikit-learn's and those counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score

from hubdelta.evaluation.scores import rand_index, retrieval, score, silhouettes


def cosines_of(seed: int, n: int = 24, labels: int = 4, spread: float = 0.6):
    random = np.random.default_rng(seed)
    own = np.arange(n) % labels
    vectors = random.normal(size=(labels, 16))[own] + spread * random.normal(size=(n, 16))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units @ units.T, own


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.1, 0.6, 3.0])
def test_silhouettes_are_those_of_scikit_learn(seed, spread):
    cosines, labels = cosines_of(seed, spread=spread)
    for distances in (np.clip(1 - cosines, 0, 1), np.clip((1 - cosines) / 2, 0, 1)):
        np.fill_diagonal(distances, 0)
        expected = silhouette_samples(distances, labels, metric="precomputed")
        np.testing.assert_allclose(silhouettes(distances, labels), expected, atol=1e-12)
    scores = score(cosines, [str(label) for label in labels])
    clipped = np.clip(1 - cosines, 0, 1)
    np.fill_diagonal(clipped, 0)
    expected = silhouette_score(clipped, labels, metric="precomputed")
    assert scores.silhouette.value == pytest.approx(expected, abs=1e-12)
    assert scores.silhouette.low <= scores.silhouette.value <= scores.silhouette.high
    assert np.mean(list(scores.by_label.values())) == pytest.approx(expected, abs=1e-12)


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
