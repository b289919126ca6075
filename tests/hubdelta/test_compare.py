"""`hubdelta compare`: two adapters side by side, for people and for programs."""

import json
import re
import subprocess
from collections.abc import Callable

import forking
import numpy as np
import pytest
from rows import catalog_row, vector_row
from terminal import show

from hubdelta.schemas.index import Index

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def at(degrees: float) -> "np.ndarray":
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Three adapters of one base, one of another, one that was never embedded."""
    made = Index.create(tmp_path_factory.mktemp("compare") / "index")
    folder = made.root.parent / "local run"
    folder.mkdir()
    made.write(
        [
            catalog_row(repo_id="org/one", license="mit", tags=["[red]law\x1b[2J"]),
            catalog_row(repo_id="org/two", license="apache-2.0", tags=["[red]law\x1b[2J"]),
            catalog_row(repo_id="org/three", subfolder="step 10"),
            catalog_row(repo_id=str(folder)),
            catalog_row(repo_id="org/waiting"),
        ],
        base="org/base",
    )
    made.write(
        [
            vector_row(repo_id="org/one", delta=at(0)),
            vector_row(repo_id="org/two", delta=at(60)),
            vector_row(repo_id="org/three", subfolder="step 10", delta=at(20)),
            vector_row(repo_id=str(folder), delta=at(90)),
        ],
        base="org/base",
    )
    made.write([catalog_row(repo_id="org/other", base="org/second")], base="org/second")
    made.write([vector_row(repo_id="org/other", base="org/second")], base="org/second")
    return made


@pytest.fixture
def compare(index: Index) -> Run:
    """Run `hubdelta compare ARGUMENTS` beside the index."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        asked = ("compare", *arguments, "--index", index.root)
        return forking.run(*asked, cwd=index.root.parent, timeout=120)

    return run


@pytest.mark.slow
def test_distance_and_shared_neighbors_come_before_the_metadata(compare: Run) -> None:
    done = compare("org/one", "org/two")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "distance 0.5000, cosine similarity 0.5000, angle 60.0°"
    shared = next(n for n, line in enumerate(lines) if line.startswith("org/three/step 10"))
    counted = lines.index("2 adapters among the 10 nearest of both:")
    heading = next(n for n, line in enumerate(lines) if line.startswith("property"))
    assert 0 < counted < shared < heading
    assert lines[heading].split() == ["property", "org/one", "org/two"]
    assert ["license", "mit", "apache-2.0"] in [line.split() for line in lines[heading:]]
    assert not any(line.startswith("datasets") for line in lines), "nothing is known of either"


def test_texts_of_the_hub_neither_style_nor_steer(compare: Run) -> None:
    done = compare("org/one", "org/two")
    assert "[red]law\N{REPLACEMENT CHARACTER}[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_has_it_all(compare: Run) -> None:
    answer = json.loads(compare("org/one", "org/two", "--json").stdout)
    assert (answer["a"], answer["b"]) == ("org/one", "org/two")
    assert (answer["similarity"], answer["distance"], answer["angle"]) == (0.5, 0.5, 60.0)
    assert answer["obstacle"] is None
    assert answer["shared"][0] == {
        "adapter": "org/three/step 10",
        "distance_to_a": 0.060307,
        "distance_to_b": 0.233956,
    }
    assert {"property": "license", "a": "mit", "b": "apache-2.0"} in answer["properties"]


@pytest.mark.slow
def test_a_revision_a_subfolder_and_a_local_folder_are_taken(compare: Run, index: Index) -> None:
    revision = "org/one@" + "0" * 40
    assert json.loads(compare(revision, "org/three/step 10", "--json").stdout)["angle"] == 20.0
    answer = json.loads(compare("./local run", "org/one", "--json").stdout)
    assert (answer["a"], answer["angle"]) == (str(index.root.parent / "local run"), 90.0)


@pytest.mark.slow
def test_two_that_cannot_be_compared_are_shown_all_the_same(compare: Run) -> None:
    for other, why in [
        ("org/other", "cannot be compared: their bases differ"),
        (
            "org/waiting",
            "cannot be compared: org/waiting has no vector yet: no run has embedded it; "
            "run `hubdelta index --base",
        ),
    ]:
        done = compare("org/one", other)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(why)
        assert "revision" in done.stdout
        assert json.loads(compare("org/one", other, "--json").stdout)["similarity"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["org/one", "org/twoo"], 1, "no adapter org/twoo in the index; did you mean org/two"),
        (["org/one", "org/two@" + "f" * 40], 1, "the index knows it at"),
        (["org/one"], 2, "missing argument 'B'"),
        (["org/one", "two"], 2, "is not an adapter"),
        (["org/one", "./nowhere"], 2, "no such folder"),
    ],
)
def test_a_wrong_name_is_told_in_a_line(
    compare: Run, arguments: list[str], code: int, says: str
) -> None:
    done = compare(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_on_a_terminal_what_differs_is_bold(index: Index) -> None:
    shown = show(*("compare", "org/one", "org/two"), columns=100, HUBDELTA_INDEX=str(index.root))
    lines = {
        line.split()[0]: line
        for line in shown.splitlines()
        if re.match(r" *(license|adapter_type)\b", line)
    }
    assert "\x1b[1mmit" in lines["license"]
    assert "\x1b[1mapache-2.0" in lines["license"]
    assert "\x1b[1m" not in lines["adapter_type"]
