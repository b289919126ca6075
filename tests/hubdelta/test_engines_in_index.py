"""Engines and precisions from the command line to the rows of an index, over real HTTP."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peft
import pytest
from faults import FaultyHub
from forking import run
from hubs import BASE, add_adapter, add_base

from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import BaseRow, VectorRow

LORA = {"target_modules": ["q_proj", "v_proj"]}
ADAPTERS = {
    # name → (how to make it, who computes it)
    "a/lora": (peft.LoraConfig(r=4, **LORA), "stacked"),
    "a/wide": (peft.LoraConfig(r=16, target_modules="all-linear"), "stacked"),
    "a/dora": (peft.LoraConfig(r=4, use_dora=True, **LORA), "stacked"),
    "a/ia3": (peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]), "stacked"),
    "a/pissa": (peft.LoraConfig(r=4, init_lora_weights="pissa", **LORA), "reference"),
    "a/prompt": (
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "reference",
    ),
}


class Made(NamedTuple):
    """An index: its vectors by name of the repository, and the rows of its bases."""

    path: Path
    vectors: dict[str, VectorRow]
    bases: list[BaseRow]


@pytest.fixture(scope="module")
def environment(tmp_path_factory, tiny_base):
    folder = tmp_path_factory.mktemp("hub")
    add_base(folder, tiny_base)
    for seed, (name, (config, _)) in enumerate(ADAPTERS.items()):
        add_adapter(folder, tiny_base, name, config=config, seed=seed)
    with FaultyHub(folder) as hub:
        yield {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def index_by(environment, tmp_path_factory):
    """Runs `hubdelta index` with options into an index of its own, or into one that is there."""

    def make(*options, path=None):
        path = path or tmp_path_factory.mktemp("made") / "index"
        done = run("index", "--base", BASE, "--index", path, *options, **environment)
        assert done.returncode == 0, done.stderr
        index = Index.open(path)
        vectors = rows_of(index.read(VectorRow, base=BASE), VectorRow)
        bases = rows_of(index.read(BaseRow, base=BASE), BaseRow)
        assert len(vectors) == len(ADAPTERS)
        return Made(path, {row.repo_id: row for row in vectors}, bases)

    return make


@pytest.fixture(scope="module")
def stacked(index_by):
    return index_by("--device", "cpu")


@pytest.fixture(scope="module")
def reference(index_by):
    return index_by("--device", "cpu", "--engine", "reference")


def cosine(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def test_each_row_names_the_engine_that_is_exact(stacked):
    named = {name: row.engine for name, row in stacked.vectors.items()}

    assert named == {name: engine for name, (_, engine) in ADAPTERS.items()}
    assert {row.precision for row in stacked.vectors.values()} == {"fp32"}


def test_the_base_has_a_row_for_each_engine_and_precision_used(stacked, reference):
    def used(made):
        return sorted((row.engine, row.precision) for row in made.bases)

    assert used(stacked) == [("reference", "fp32"), ("stacked", "fp32")]
    assert used(reference) == [("reference", "fp32")]
    for row in [*stacked.bases, *reference.bases]:
        norm = np.linalg.norm(np.mean(row.activations, axis=0))
        assert 0 < row.noise_floor < 1e-4 * norm


def test_both_engines_make_the_same_vectors(stacked, reference):
    for name, row in stacked.vectors.items():
        other = reference.vectors[name]
        assert cosine(row.delta, other.delta) > 0.99999, name
        assert row.norm == pytest.approx(other.norm, rel=1e-4)
        assert row.recipe_id == other.recipe_id  # they may stand in one index
        assert other.engine == "reference"


def test_signal_is_the_norm_over_the_floor_of_the_same_arithmetic(stacked):
    floors = {(row.engine, row.precision): row.noise_floor for row in stacked.bases}

    for row in stacked.vectors.values():
        assert row.norm == pytest.approx(np.linalg.norm(row.delta), rel=1e-5)
        assert row.signal == pytest.approx(row.norm / floors[row.engine, row.precision], rel=1e-6)
        assert row.signal > 100


def test_what_is_there_is_left_to_the_engine_that_made_it(stacked, index_by):
    again = index_by("--device", "cpu", "--engine", "reference", path=stacked.path)

    assert again.vectors == stacked.vectors
    assert len(again.bases) == len(stacked.bases)


def test_a_precision_reaches_the_rows(index_by, stacked):
    made = index_by("--device", "cpu", "--precision", "fp16")

    for name, (_, engine) in ADAPTERS.items():
        row = made.vectors[name]
        assert row.precision == ("fp16" if engine == "stacked" else "fp32")
        assert cosine(row.delta, stacked.vectors[name].delta) > 0.9999
    used = {(row.engine, row.precision): row.noise_floor for row in made.bases}
    assert used.keys() == {("stacked", "fp16"), ("reference", "fp32")}
    assert used["stacked", "fp16"] < 3 * used["reference", "fp32"]  # what fp32 leaves


@pytest.mark.parametrize(
    "options",
    [
        ["--precision", "fp8"],
        ["--precision", "tf32", "--device", "cpu"],
        ["--precision", "fp16", "--engine", "reference"],
        ["--engine", "slow"],
        ["--threads", "0"],
        ["--threads", "many"],
        ["--device", "nonsense"],
        ["--device", "cuda:99"],
    ],
    ids=" ".join,
)
def test_a_bad_value_is_a_wrong_usage(options, environment, tmp_path):
    asked = ("index", "--base", BASE, "--index", tmp_path / "index")
    done = run(*asked, *options, **environment)

    assert done.returncode == 2
    assert not list(tmp_path.glob("index/catalog/base=*/2*")), "it was refused after the crawl"


RUN_AND_TELL = """
import sys
from hubdelta.cli import run
code = run(sys.argv[1:])
import torch
print(code, torch.get_num_threads())
"""


def test_threads_reach_torch(environment, tmp_path):
    options = ("--base", BASE, "--index", tmp_path / "index", "--threads", 3)
    script = tmp_path / "run_and_tell.py"
    script.write_text(RUN_AND_TELL)

    done = run("index", *options, script=script, computing=True, **environment)

    assert done.stdout.splitlines()[-1] == "0 3", done.stderr


def test_neighbors_come_with_their_signal(stacked, environment):
    asked = ("similar", "a/lora", "--index", stacked.path)

    found = json.loads(run(*asked, "--json", **environment).stdout)

    assert {row["adapter"] for row in found} == ADAPTERS.keys() - {"a/lora"}
    for row in found:
        assert row["signal"] == pytest.approx(stacked.vectors[row["adapter"]].signal, rel=1e-6)
    assert "signal" in run(*asked, **environment).stdout
