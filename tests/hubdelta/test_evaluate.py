"""`hubdelta evaluate`: the scores of each space, what is computed again, and wrong input."""

import csv
import json
import shutil
from pathlib import Path

import forking
import numpy as np
import pytest
from families import load_model, make_adapter
from faults import Fault, FaultyHub
from hubs import BASE, add_adapter, add_base
from lora import changes, factors
from optional import skip_without
from sentences import make_sentence_model
from sklearn.metrics import silhouette_score

from hubdelta import open_index
from hubdelta.evaluation.similarity import cosines
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import SpaceRow

PATTERN = r"/(?P<label>[a-z]+)-"
SENTENCES = "tiny/sentences"
LORA = [f"{org}/{label}-{n}" for n, org in enumerate("ab") for label in ("code", "law", "math")]
OTHERS = ["d/code-dora", "d/law-ia3"]


def add_sentence_model(hub: Path) -> None:
    folder = make_sentence_model(hub / SENTENCES)
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n")


def add_ia3(hub: Path, base: Path, repo_id: str) -> None:
    from peft import IA3Config

    config = IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    make_adapter(hub / repo_id, base, base_name=BASE, config=config)
    card = f"---\nbase_model: {BASE}\nlibrary_name: peft\n---\n"
    (hub / repo_id / "README.md").write_text(card)


class Place:
    """An index of a Hub, and `hubdelta` run on it."""

    def __init__(self, path: Path, hub: FaultyHub, home: Path) -> None:
        self.path, self.hub, self.home = path, hub, home

    def run(self, *arguments: object):
        environment = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home),
            "HUBDELTA_INDEX": str(self.path),
        }
        done = forking.run(*arguments, timeout=300, **environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ask(self, *arguments: object):
        done = self.run("evaluate", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def rows(self, space: str) -> list[SpaceRow]:
        found = rows_of(Index.open(self.path).read(SpaceRow, base=BASE), SpaceRow)
        return [row for row in found if row.space == space]


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory) -> Path:
    hub = tmp_path_factory.mktemp("family") / "hub"
    add_base(hub, tiny_base)
    add_sentence_model(hub)
    for seed, name in enumerate(LORA):
        add_adapter(hub, tiny_base, name, seed=seed, r=4 if seed % 2 else 8)
    add_adapter(hub, tiny_base, OTHERS[0], seed=7, use_dora=True)
    add_ia3(hub, tiny_base, OTHERS[1])
    return hub


@pytest.fixture(scope="module")
def indexed(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("indexed")
    with FaultyHub(folder) as hub:
        made = Place(place / "index", hub, place / "home")
        done = made.run("index", "--base", BASE, "--precision", "fp32")
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture
def place(indexed, tmp_path) -> Place:
    """An index of the family, of which each test has a copy."""
    shutil.copytree(indexed.path, tmp_path / "index")
    return Place(tmp_path / "index", indexed.hub, indexed.home)


@pytest.fixture
def labels(tmp_path):
    def write(given: dict[str, str]) -> Path:
        with (tmp_path / "labels.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("adapter", "label"), *given.items()])
        return tmp_path / "labels.csv"

    return write


def silhouette(vectors: np.ndarray, labels: list[str], *, halved: bool = False) -> float:
    distances = 1 - cosines(vectors @ vectors.T)
    distances = distances / 2 if halved else distances.clip(0, 1)
    return silhouette_score(distances, labels, metric="precomputed")


def test_each_space_scores_as_its_vectors_made_in_full(place, folder):
    found = place.ask("--label-pattern", PATTERN, "--spaces", "weights,update,pca")
    names = sorted(LORA)
    labels = [name.partition("/")[2].partition("-")[0] for name in names]
    shapes = {}
    for name in names:
        for module, own in factors(folder / name).items():
            shapes[module] = len(own["B"]), own["A"].shape[1]

    def flat(name: str) -> np.ndarray:
        parts = []
        for own in factors(folder / name).values():
            for part in (own["A"], own["B"].T):
                parts.append(np.pad(part, ((0, 8 - len(part)), (0, 0))).ravel())
        return np.concatenate(parts)

    update = np.stack([changes(folder / name, shapes) for name in names])
    scored = {row["space"]: row for row in found["spaces"]}
    assert scored["update"]["adapters"] == 6
    for halved, key in ((False, "silhouette"), (True, "silhouette_halved")):
        value = scored["update"][key]
        assert value == pytest.approx(silhouette(update, labels, halved=halved), abs=1e-6)

    # weights also represents DoRA's factors
    names = sorted([*LORA, OTHERS[0]])
    labels = [name.partition("/")[2].partition("-")[0] for name in names]
    weights = np.stack([flat(name) for name in names])
    expected = silhouette(weights, labels)
    assert scored["weights"]["silhouette"] == pytest.approx(expected, abs=1e-6)
    components = weights - weights.mean(axis=0)
    left, sizes, _ = np.linalg.svd(components, full_matrices=False)
    expected = silhouette((left * sizes)[:, :-1], labels)
    assert scored["pca"]["silhouette"] == pytest.approx(expected, abs=1e-6)
    assert scored["pca"]["dimension"] == 6


def test_what_a_space_cannot_represent_is_counted_by_kind(place):
    done = place.run("evaluate", "--label-pattern", PATTERN, "--spaces", "delta,weights,update")
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "update leaves out 1 LORA adapter: DoRA's magnitudes" in said
    assert "update leaves out 1 IA3 adapter: no LoRA factors" in said
    assert "weights leaves out 1 IA3 adapter: no LoRA factors" in said
    assert "delta leaves out" not in said


def test_salient_and_answers_have_scores_and_their_definitions(place):
    found = place.ask(
        *("--label-pattern", PATTERN, "--spaces", "salient,outputs", "--sentence-model", SENTENCES)
    )
    salient, outputs = found["spaces"]
    assert (salient["adapters"], outputs["adapters"]) == (6, 8)
    assert outputs["dimension"] == 16
    assert found["computed"] == {"salient": 8, "outputs": 8}
    rows = place.rows("outputs")
    assert all(SENTENCES in row.definition for row in rows)
    assert not np.allclose(rows[0].vector, rows[1].vector)


def test_a_second_time_nothing_is_computed_and_the_hub_is_not_needed(place):
    ask = ("--label-pattern", PATTERN, "--spaces", "all", "--sentence-model", SENTENCES)
    first = place.ask(*ask)
    files = sorted(place.path.rglob("*.parquet"))
    place.hub.faults.add(Fault("*", times=None, status=503))
    try:
        second = place.ask(*ask)
    finally:
        place.hub.faults.clear()
    assert first["computed"]
    assert second["computed"] == {}
    assert second["spaces"] == first["spaces"]
    assert sorted(place.path.rglob("*.parquet")) == files


def test_of_a_new_adapter_only_its_own_pairs_are_computed(place, folder, labels):
    old = dict.fromkeys([*LORA[:2], *LORA[3:5]], "")
    old = {name: name.partition("/")[2].partition("-")[0] for name in old}
    place.ask("--labels", labels(old), "--spaces", "update,outputs", "--sentence-model", SENTENCES)
    new = old | {"a/math-0": "math", "b/math-1": "math"}
    ask = ("--labels", labels(new), "--spaces", "update,outputs", "--sentence-model", SENTENCES)
    found = place.ask(*ask)
    assert found["computed"] == {"outputs": 2, "update": 2}
    rows = {row.adapter: row for row in place.rows("update") if row.adapter not in old}
    assert sorted(rows) == ["a/math-0", "b/math-1"]
    assert len(rows["a/math-0"].others) == 6
    assert len(place.rows("update")) == 6
    again = place.ask(*ask)
    assert again["computed"] == {}


def test_stored_labels_are_used_where_none_are_given(place, labels):
    done = place.run("evaluate")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "at least three labeled adapters" in done.stderr
    given = {name: name.partition("/")[2].partition("-")[0] for name in LORA}
    assert place.run("label", labels(given)).returncode == 0
    assert place.ask()["labels"] == dict(sorted(given.items()))


def test_labels_of_one_adapter_are_dropped(place, labels):
    given = {name: name.partition("/")[2].partition("-")[0] for name in LORA} | {OTHERS[0]: "odd"}
    found = place.ask("--labels", labels(given))
    assert found["alone"] == {OTHERS[0]: "odd"}
    assert found["spaces"][0]["adapters"] == 6


def test_labels_of_absent_adapters_are_named_and_left_out(place, labels):
    given = {name: name.partition("/")[2].partition("-")[0] for name in LORA}
    done = place.run("evaluate", "--labels", labels(given | {"no/such": "code"}))
    assert done.returncode == 3
    assert "1 of tiny/base have labels and no comparable vector: no/such" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--labels", "csv:adapter,label\na/code-0,x\nb/code-1,x\na/law-0,x\n"], 2, "all 3"),
        (["--labels", "csv:adapter,label\na/code-0,x\nb/code-1,y\n"], 2, "at least three"),
        (["--labels", "csv:adapter,label\nno/such,x\n"], 2, "at least three"),
        (["--labels", "csv:adapter,label\na/code-0,x\nb/code-1,x\na/law-0,y\n"], 2, "two labels"),
        (["--labels", "csv:name,label\na/code-0,x\n"], 2, "columns must include adapter and label"),
        (["--labels", "csv:"], 2, "columns must include"),
        (["--label-pattern", "(?P<label>"], 2, "not a regular expression"),
        (["--label-pattern", "code|law"], 2, "no group (?P<label>...)"),
        (["--label-pattern", "(?P<label>nothing)"], 2, "at least three"),
        (["--label-pattern", PATTERN, "--spaces", "delta,lora"], 2, "no space 'lora'"),
        (["--label-pattern", PATTERN, "--spaces", ","], 2, "no space is named"),
        (["--label-pattern", PATTERN, "--base", "no/such"], 1, "no/such"),
        (
            ["--label-pattern", PATTERN, "--spaces", "outputs", "--sentence-model", "./gone"],
            2,
            "no such folder",
        ),
        (
            ["--label-pattern", PATTERN, "--spaces", "outputs", "--sentence-model", "no/such"],
            1,
            "no/such is not at",
        ),
    ],
    ids=lambda value: str(value[-1])[-25:] if isinstance(value, list) else None,
)
def test_wrong_input_is_told_in_a_line(place, tmp_path, arguments, code, said):
    given = []
    for argument in arguments:
        if argument.startswith("csv:"):
            (tmp_path / "given.csv").write_text(argument.removeprefix("csv:"))
            argument = str(tmp_path / "given.csv")
        given.append(argument)
    done = place.run("evaluate", *given)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert not place.rows("outputs")


def test_pictures_are_drawn(place, tmp_path):
    skip_without("matplotlib")
    done = place.run("evaluate", "--label-pattern", PATTERN, "--plot", tmp_path / "new" / "folder")
    assert done.returncode == 0, done.stderr
    drawn = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert drawn == ["silhouettes.png", "silhouettes.svg", "tsne.png", "tsne.svg"]


def test_a_picture_folder_that_is_a_file_is_told_before_any_work(place, tmp_path):
    (tmp_path / "file").write_text("")
    done = place.run(
        "evaluate", "--label-pattern", PATTERN, "--spaces", "update", "--plot", tmp_path / "file"
    )
    assert done.returncode == 1
    assert "is a file: name a folder" in done.stderr
    assert not place.rows("update")


def test_pictures_without_matplotlib_are_told_before_any_work(place, tmp_path):
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def without(name, *rest):\n"
        "    return None if name.partition('.')[0] == 'matplotlib' else find(name, *rest)\n"
        "PathFinder.find_spec = without\n"
        "from hubdelta.cli import main\n"
        "main()\n"
    )
    arguments = ("--label-pattern", PATTERN, "--spaces", "update", "--plot", tmp_path / "figures")
    done = forking.run(
        "evaluate", *arguments, script=script, computing=True, HUBDELTA_INDEX=str(place.path)
    )
    assert done.returncode == 1, done.stderr
    said = "error: hubdelta evaluate --plot needs more packages: pip install 'hubdelta[evaluate]'"
    assert done.stderr.strip() == said
    assert not (tmp_path / "figures").exists()
    assert not place.rows("update")


def test_python_gives_the_same_scores_as_a_frame(place, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", place.hub.url)
    asked = place.ask("--label-pattern", PATTERN, "--spaces", "delta,update")
    with open_index(place.path, frames="pandas") as index:
        found = index.evaluate(label_pattern=PATTERN, spaces=["delta", "update"])
        with pytest.raises(UsageError, match="leave out one"):
            index.evaluate(labels={}, label_pattern=PATTERN)
    assert found["space"].tolist() == ["delta", "update"]
    assert found["silhouette"].tolist() == [row["silhouette"] for row in asked["spaces"]]
    assert found["left_out"][1].tolist() == asked["spaces"][1]["left_out"]


def test_the_releases_files_hold_all_vectors_and_the_score_of_the_labels(place, labels, tmp_path):
    out = tmp_path / "embeddings.npz"
    done = place.run("export", "--format", "paper", "--out", out)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "results_summary.json").read_text())
    assert summary == {
        "model_family": "llama",
        "base_model": BASE,
        "num_models_analyzed": 8,
        "silhouette_score": None,
        "model_paths": sorted([*LORA, *OTHERS]),
    }
    with np.load(out) as held:
        assert sorted(held) == ["base_model", "embeddings", "model_names", "probe_info"]
        assert held["model_names"].tolist() == summary["model_paths"]
        assert str(held["base_model"]) == BASE
        assert json.loads(str(held["probe_info"]))["prompts"] == list(ALPACA_5.prompts)
        embeddings = held["embeddings"]
    with open_index(place.path) as index:
        names, matrix = index.vectors(BASE)
    np.testing.assert_array_equal(embeddings, matrix)

    given = {name: name.partition("/")[2].partition("-")[0] for name in LORA}
    assert place.run("label", labels(given)).returncode == 0
    assert place.run("export", "--format", "paper", "--out", out).returncode == 0
    summary = json.loads((tmp_path / "results_summary.json").read_text())
    rows = [names.index(name) for name in sorted(LORA)]
    expected = silhouette(matrix[rows].astype(float), [given[names[row]] for row in rows])
    assert summary["silhouette_score"] == pytest.approx(expected, abs=1e-6)


def test_the_releases_two_files_cannot_go_to_standard_output(place):
    done = place.run("export", "--format", "paper", "--out", "-")
    assert done.returncode == 2
    assert "writes two files" in done.stderr


def test_an_adapter_that_cannot_be_fetched_is_left_out_until_it_can(place):
    place.ask("--label-pattern", PATTERN, "--spaces", "weights")
    gone = place.hub.faults.add(Fault("/b/law-1/*", times=None, status=404))
    try:
        first = place.ask("--label-pattern", PATTERN, "--spaces", "weights,update")
    finally:
        place.hub.faults.clear()
    assert gone
    assert first["spaces"][0]["adapters"] == 7  # what was computed before counts
    left_out = {tuple(group["adapters"]): group["why"] for group in first["spaces"][1]["left_out"]}
    assert left_out[("b/law-1",)].startswith("not_found: ")
    assert left_out[("a/law-0",)] == "alone with its label in this space"
    second = place.ask("--label-pattern", PATTERN, "--spaces", "update")
    assert second["spaces"][0]["adapters"] == 6
    assert second["computed"] == {"update": 1}


def test_a_local_adapter_counts_until_its_folder_changes(place, folder, tiny_base, tmp_path):
    names = {}
    for seed, label in enumerate(("code", "law", "code", "law")):
        own = make_adapter(tmp_path / f"{label}-{seed}", tiny_base, seed=40 + seed, base_name=BASE)
        names[own.as_posix()] = label
    done = place.run("index", "--base", BASE, "--precision", "fp32", *names)
    assert done.returncode == 0, done.stderr
    pattern = f"{tmp_path.name}/(?P<label>code|law)-"
    assert place.ask("--label-pattern", pattern, "--spaces", "update")["computed"] == {"update": 4}
    changed = Path(next(iter(names)))
    shutil.rmtree(changed)
    make_adapter(changed, tiny_base, seed=50, base_name=BASE)
    found = place.ask("--label-pattern", pattern, "--spaces", "weights")
    (group, alone) = found["spaces"][0]["left_out"]
    assert "its folder has changed since" in group["why"] + alone["why"]


def test_a_busy_index_is_told_before_any_work(place):
    with Index.open(place.path).writing():
        done = place.run("evaluate", "--label-pattern", PATTERN, "--spaces", "update")
        assert done.returncode == 1
        assert "another run is writing to" in done.stderr
        assert place.run("evaluate", "--label-pattern", PATTERN).returncode == 0


def test_an_index_of_an_earlier_version_gets_the_table(place):
    shutil.rmtree(place.path / SpaceRow.table)
    ask = ("--label-pattern", PATTERN, "--spaces")
    assert place.ask(*ask, "delta")["spaces"][0]["adapters"] == 8
    assert place.ask(*ask, "update")["computed"] == {"update": 8}
    assert place.ask(*ask, "update")["computed"] == {}


def test_where_the_hub_is_down_it_ends_after_a_few_adapters(place):
    place.hub.faults.add(Fault("/?/*/resolve/*", times=None, status=503))
    before = len(place.hub.requests)
    try:
        done = place.run("evaluate", "--label-pattern", PATTERN, "--spaces", "weights")
    finally:
        place.hub.faults.clear()
    assert done.returncode == 1
    assert "3 adapters in a row failed, the last with: " in done.stderr.splitlines()[-1]
    asked = {
        request.path.split("/resolve/")[0]
        for request in place.hub.requests[before:]
        if "/resolve/" in request.path
    }
    assert len(asked - {f"/{BASE}"}) == 3
    assert not place.rows("weights")


def test_promoted_tokens_score_as_the_changes_of_all_logits(place, tiny_base):
    found = place.ask("--label-pattern", PATTERN, "--spaces", "promoted")
    (row,) = found["spaces"]
    with open_index(place.path) as index:
        names, deltas = index.vectors(BASE)
    weight = load_model(tiny_base).get_output_embeddings().weight.detach().double().numpy()
    changes = deltas.astype(np.float64) @ weight.T
    changes -= changes.mean(1, keepdims=True)  # a shift of all logits changes no probability
    labels = [name.partition("/")[2].partition("-")[0] for name in names]
    assert row["silhouette"] == pytest.approx(silhouette(changes, labels), abs=1e-5)
    assert (row["dimension"], row["fetched_bytes"]) == (len(weight), 0)
    assert place.ask("--label-pattern", PATTERN, "--spaces", "promoted")["computed"] == {}


def test_promoted_tokens_of_an_earlier_layer_are_refused(place):
    done = place.run("index", "--base", BASE, "--no-crawl", "--layer", "1")
    assert done.returncode == 0, done.stderr
    done = place.run("evaluate", "--label-pattern", PATTERN, "--spaces", "delta,promoted")
    assert done.returncode == 2
    assert "are of layer 1, and the base's output layer takes" in done.stderr
