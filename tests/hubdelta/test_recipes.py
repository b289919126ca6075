"""Recipes other than the paper's: chosen on the command line, kept apart in the index."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from by_peft import delta_by_peft
from families import make_adapter
from faults import FaultyHub
from forking import run
from hubs import BASE, add_adapter, add_base

from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import BaseRow, VectorRow
from hubdelta.sql.connection import connect

NAMES = ("a/one", "a/two", "a/three")
PROMPTS = ("Below is a task.\n\nResponse:", "Write a response that completes the request.")


class Made(NamedTuple):
    """An index, and how `hubdelta` runs on it."""

    path: Path
    base: Path
    environment: dict[str, str]

    def run(self, *arguments):
        return run(*arguments, "--index", self.path, **self.environment)

    def index(self, *options):
        done = self.run("index", "--base", BASE, "--device", "cpu", "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def vectors(self):
        rows = rows_of(Index.open(self.path).read(VectorRow, base=BASE), VectorRow)
        return {(row.repo_id, row.recipe_id): row for row in rows}


@pytest.fixture(scope="module")
def hub(tmp_path_factory, tiny_base):
    folder = tmp_path_factory.mktemp("hub")
    add_base(folder, tiny_base)
    for seed, name in enumerate(NAMES):
        add_adapter(folder, tiny_base, name, seed=seed)
    with FaultyHub(folder) as hub:
        yield {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    file = tmp_path_factory.mktemp("probes") / "mine.jsonl"
    file.write_text("".join(json.dumps(prompt) + "\n" for prompt in PROMPTS))
    return file


@pytest.fixture(scope="module")
def made(hub, probes, tiny_base, tmp_path_factory):
    """All adapters by the paper's recipe, then two of them with other probes."""
    made = Made(tmp_path_factory.mktemp("made") / "index", tiny_base, hub)
    assert made.index()["embedded"] == 3
    assert made.index("--probes", probes, *NAMES[:2])["embedded"] == 2
    return made


def recipes(made):
    """The ids of the recipes: the paper's, and the other."""
    rows = rows_of(Index.open(made.path).read(BaseRow, base=BASE), BaseRow)
    ids = {row.probe_set: row.recipe_id for row in rows}
    return ids["alpaca-5"], ids["mine"]


def test_rows_name_the_probes_of_their_recipe(made):
    of_paper, of_mine = recipes(made)
    expected = {of_paper: ALPACA_5, of_mine: ProbeSet("mine", PROMPTS)}

    for (_, recipe), row in made.vectors().items():
        assert (row.probe_set, row.probe_set_id) == (expected[recipe].name, expected[recipe].id)
    for row in rows_of(Index.open(made.path).read(BaseRow, base=BASE), BaseRow):
        assert row.prompts == list(expected[row.recipe_id].prompts)
        assert (row.layer, row.token, row.pooling) == ("final_norm", "last", "mean")
        assert len(row.activations) == len(row.prompts)


def test_vectors_are_those_of_the_prompts(made, tmp_path):
    of_paper, of_mine = recipes(made)
    found = made.vectors()

    for seed, name in enumerate(NAMES[:2]):
        adapter = make_adapter(tmp_path / str(seed), made.base, seed=seed)
        for recipe, prompts in ((of_paper, ALPACA_5.prompts), (of_mine, PROMPTS)):
            expected = delta_by_peft(made.base, adapter, prompts)
            delta = found[name, recipe].delta
            assert np.linalg.norm(delta - expected) < 1e-5 * np.linalg.norm(expected)


def test_only_vectors_of_the_same_recipe_count_as_done(made, probes, tmp_path):
    renamed = tmp_path / "renamed.json"
    renamed.write_text(json.dumps(PROMPTS))

    again = made.index("--no-crawl")
    assert (again["embedded"], again["skipped"]["already embedded"]) == (0, 3)
    again = made.index("--probes", renamed, *NAMES[:2])
    assert (again["embedded"], again["skipped"]["already embedded"]) == (0, 2)


def test_queries_never_compare_across_recipes(made):
    """Each adapter stands for itself in the recipe in which it was embedded last."""
    of_paper, of_mine = recipes(made)
    found = made.vectors()

    def cosine(a, b, recipe):
        x, y = (np.asarray(found[name, recipe].delta, float) for name in (a, b))
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    with connect(Index.open(made.path)) as queries:
        newest = queries.run("FROM comparable WHERE newest").to_pylist()
        assert {row["adapter"]: row["recipe_id"] for row in newest} == {
            "a/one": of_mine,
            "a/two": of_mine,
            "a/three": of_paper,
        }
        (similar,) = queries.run("FROM neighbors('a/one')").to_pylist()
        assert similar["adapter"] == "a/two"
        assert similar["similarity"] == pytest.approx(cosine("a/one", "a/two", of_mine), abs=2e-6)
        both = {
            row["adapter"]: row["similarity"]
            for row in queries.run("FROM neighbors('a/three')").to_pylist()
        }
        assert both == {
            name: pytest.approx(cosine("a/three", name, of_paper), abs=2e-6) for name in NAMES[:2]
        }
        joined = queries.run("FROM domains(NULL, distance := 2.0)").to_pylist()
        assert sorted(sorted(row["members"]) for row in joined) == [["a/one", "a/two"], ["a/three"]]
        pairs = queries.run("FROM pairs(NULL)").to_pylist()
        assert [(row["a"], row["b"]) for row in pairs] == [("a/one", "a/two")]


def test_mean_pooling_is_a_recipe_of_its_own(hub, tiny_base, tmp_path):
    made = Made(tmp_path / "index", tiny_base, hub)
    made.index()
    assert made.index("--pooling", "mean", "--no-crawl")["embedded"] == 3
    assert made.index("--pooling", "mean", "--no-crawl")["embedded"] == 0

    with connect(Index.open(made.path)) as queries:
        tokens = {
            row["recipe_id"]: row["token"]
            for row in queries.run("SELECT DISTINCT recipe_id, token FROM bases").to_pylist()
        }
        promoting = queries.run("SELECT DISTINCT recipe_id FROM promotions").to_pylist()
    assert sorted(tokens.values()) == ["last", "mean"]
    assert {row["recipe_id"] for row in promoting} == tokens.keys()
    for seed, name in enumerate(NAMES):
        adapter = make_adapter(tmp_path / str(seed), made.base, seed=seed)
        for recipe, token in tokens.items():
            delta = made.vectors()[name, recipe].delta
            wanted = delta_by_peft(made.base, adapter, ALPACA_5.prompts, pooling=token)
            assert np.linalg.norm(delta - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_a_layer_is_a_recipe_of_its_own_without_promoted_tokens(hub, tiny_base, tmp_path):
    made = Made(tmp_path / "index", tiny_base, hub)
    made.index()
    assert made.index("--layer", "2", "--no-crawl")["embedded"] == 0  # the paper's, of two layers
    assert made.index("--layer", "-2", "--no-crawl")["embedded"] == 3
    assert made.index("--layer", "1", "--no-crawl")["embedded"] == 0

    with connect(Index.open(made.path)) as queries:
        layers = {
            row["layer"]: row["recipe_id"]
            for row in queries.run("SELECT DISTINCT recipe_id, layer FROM bases").to_pylist()
        }
        promoting = queries.run("SELECT DISTINCT recipe_id FROM promotions").to_pylist()
    assert layers.keys() == {"final_norm", "1"}
    assert promoting == [{"recipe_id": layers["final_norm"]}]
    for seed, name in enumerate(NAMES):
        adapter = make_adapter(tmp_path / str(seed), made.base, seed=seed)
        delta = made.vectors()[name, layers["1"]].delta
        wanted = delta_by_peft(made.base, adapter, ALPACA_5.prompts, layer=1)
        assert np.linalg.norm(delta - wanted) < 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "3"], "the base has no layer 3: 0 (its embeddings) to 2 (its last)"),
        (["--layer", "-4"], "the base has no layer -4"),
        (["--layer", "first"], "it must be a valid integer"),
        (["--pooling", "max"], "'max' is not one of"),
        (["--engine", "vllm", "--layer", "1"], "vllm reads only the last token"),
    ],
)
def test_bad_states_are_one_line_before_anything_is_written(options, message, hub, tmp_path):
    done = run("index", "--base", BASE, *options, "--index", tmp_path / "index", **hub)

    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no probe"),
        ('["task"', "is not JSON"),
        (json.dumps(["task", "task " * 300]), "probe 2 of bad ('task "),
    ],
)
def test_bad_probes_are_one_line_before_anything_is_written(content, message, hub, tmp_path):
    file = tmp_path / "bad.json"
    file.write_text(content)

    done = run(*("index", "--base", BASE, "--probes", file, "--index", tmp_path / "index"), **hub)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "index").exists()
