"""Pictures of an evaluation: readable files, the same each time, whatever labels are called."""

import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from hubdelta.evaluation.evaluate import SpaceScores
from hubdelta.evaluation.pictures import draw, plane
from hubdelta.evaluation.scores import score
from hubdelta.schemas.errors import OutputError


def scored(name: str, labels: list[str], seed: int = 0) -> SpaceScores:
    random = np.random.default_rng(seed)
    centers = {label: random.normal(size=8) for label in labels}
    vectors = np.stack([centers[label] for label in labels]) + random.normal(size=(len(labels), 8))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    adapters = [f"a/{place}" for place in range(len(labels))]
    return SpaceScores(
        name, "", adapters, labels, cosines, 8, score(cosines, labels), seconds=0, fetched_bytes=0
    )


def test_pictures_are_png_and_svg_and_the_same_each_time(tmp_path: Path) -> None:
    spaces = [scored(name, ["code", "law", "math"] * 4, seed) for seed, name in enumerate("abcd")]
    files = {}
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        files[place] = draw(spaces, tmp_path / place)
    assert [path.name for path in files["one"]] == [
        *("silhouettes.png", "silhouettes.svg", "tsne.png", "tsne.svg"),
    ]
    for first, second in zip(files["one"], files["two"], strict=True):
        assert first.read_bytes() == second.read_bytes()
        if first.suffix == ".png":
            pixels = imread(first)
            assert min(pixels.shape[:2]) > 300
            assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 5
        else:
            assert ET.parse(first).getroot().tag.endswith("svg")


def test_labels_are_no_markup_and_may_be_long_or_many(tmp_path: Path) -> None:
    odd = ["$x^2$", "_hidden", "<b>bold</b>", "an exceedingly long label " * 4, "{", "naïve"]
    labels = [*odd, *(f"label {place}" for place in range(20))] * 2
    with mpl.rc_context({"text.usetex": False}):
        draw([scored("delta", labels)], tmp_path)
    ET.parse(tmp_path / "silhouettes.svg")


def test_a_label_that_a_space_lacks_is_left_empty(tmp_path: Path) -> None:
    draw([scored("a", ["x", "y", "z"] * 3), scored("b", ["x", "y"] * 3)], tmp_path)
    assert (tmp_path / "tsne.svg").exists()


@pytest.mark.parametrize("count", [4, 15, 60])
def test_the_plane_keeps_clusters_apart(count: int) -> None:
    labels = np.arange(count) % 2
    cosines = np.where(labels[:, np.newaxis] == labels, 0.99, 0.0)
    np.fill_diagonal(cosines, 1)
    xy = plane(cosines)
    assert xy.shape == (count, 2)
    assert np.isfinite(xy).all()
    np.testing.assert_array_equal(xy, plane(cosines))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        draw([scored("a", ["x", "y"] * 3)], tmp_path / "missing")
