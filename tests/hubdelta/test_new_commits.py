"""A new commit costs what it changed: an edited card leaves the vector as it is."""

import json
from pathlib import Path

import forking
import numpy as np
import pytest
from families import load_model, make_adapter
from faults import Fault, FaultyHub
from hubs import BASE, add_adapter, add_base

from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import PromotionRow, RunRow, VectorRow

ADAPTER = "a/lora"


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path) -> Path:
    hub = tmp_path / "hub"
    add_base(hub, tiny_base)
    add_adapter(hub, tiny_base, ADAPTER, seed=1)
    return hub


@pytest.fixture
def hub(folder: Path):
    with FaultyHub(folder) as running:
        yield running


@pytest.fixture
def index_run(hub: FaultyHub, tmp_path: Path):
    """Runs the nightly job, and gives its summary and the adapter's requests by kind."""

    def run(*options: str) -> tuple[dict, list[str]]:
        before = len(hub.requests)
        own = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HUBDELTA_INDEX": str(tmp_path / "index"),
        }
        done = forking.run("index", "--base", BASE, "--json", *options, timeout=120, **own)
        assert done.returncode == 0, done.stderr
        asked = [request.path for request in hub.requests[before:]]
        return json.loads(done.stdout), [
            path for path in asked if "/resolve/" in path or "/paths-info/" in path
        ]

    return run


def vectors(tmp_path: Path) -> dict[str, VectorRow]:
    """The adapter's vectors by commit."""
    rows = rows_of(Index.open(tmp_path / "index").read(VectorRow, base=BASE), VectorRow)
    return {row.revision: row for row in rows if row.repo_id != BASE}


def of_adapter(asked: list[str]) -> list[str]:
    """What was asked of the adapter's repository: the file, or paths-info."""
    return [
        path.rpartition("/")[2] if "/resolve/" in path else "paths-info"
        for path in asked
        if path.removeprefix("/api/models").startswith(f"/{ADAPTER}/")
    ]


def test_an_edited_card_costs_one_question_and_its_own_text(index_run, folder, tmp_path):
    first, _ = index_run()
    assert (first["embedded"], first["kept"]) == (1, 0)
    (folder / ADAPTER / "README.md").write_text("Sonnets about the sea.")
    second, asked = index_run()
    assert (second["embedded"], second["kept"], second["resolves"]) == (0, 1, 1)
    assert of_adapter(asked) == ["paths-info", "README.md"]
    old, new = sorted(vectors(tmp_path).values(), key=lambda row: row.embedded_at)
    np.testing.assert_array_equal(old.delta, new.delta)
    assert (old.card, new.card) == (None, "Sonnets about the sea.")
    assert new.run_id == second["run_id"] != old.run_id
    assert new.files.keys() == {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    runs = rows_of(Index.open(tmp_path / "index").read(RunRow, base=BASE), RunRow)
    assert [run.counts.get("kept") for run in runs if run.kind == "index"] == [0, 1]
    # The commit after that is recognized by what the kept row says.
    (folder / ADAPTER / "notes.txt").write_text("of no weight")
    third, asked = index_run()
    assert (third["kept"], third["resolves"]) == (1, 0)
    assert of_adapter(asked) == ["paths-info"]
    (folder / ADAPTER / "README.md").unlink()
    fourth, asked = index_run()
    assert (fourth["kept"], len(of_adapter(asked))) == (1, 2)
    newest = max(vectors(tmp_path).values(), key=lambda row: row.embedded_at)
    assert newest.card is None
    assert len(vectors(tmp_path)) == 4


@pytest.mark.parametrize("changed", ["weights", "alpha", "another file"])
def test_what_decides_the_vector_makes_a_new_one(changed, index_run, folder, tiny_base, tmp_path):
    index_run()
    place = folder / ADAPTER
    if changed == "weights":
        make_adapter(place, tiny_base, base_name=BASE, seed=2)
    elif changed == "alpha":
        config = json.loads((place / "adapter_config.json").read_text())
        config["lora_alpha"] *= 2
        (place / "adapter_config.json").write_text(json.dumps(config))
    else:  # the index file of shards decides which weights are read
        (place / "adapter_model.safetensors").rename(place / "adapter_model-00001.safetensors")
        names = json.dumps({"weight_map": {"x": "adapter_model-00001.safetensors"}})
        (place / "adapter_model.safetensors.index.json").write_text(names)
    summary, _ = index_run()
    assert summary["kept"] == 0
    if changed != "another file":
        old, new = vectors(tmp_path).values()
        assert summary["embedded"] == 1
        assert not np.allclose(old.delta, new.delta)


def test_a_sharded_finetune_whose_card_changed_is_not_streamed_again(
    index_run, folder, tiny_base, tmp_path
):
    model = load_model(tiny_base)
    place = folder / ADAPTER
    for file in place.iterdir():
        file.unlink()
    for parameter in model.parameters():
        parameter.data += 0.01
    model.save_pretrained(place, max_shard_size="20KB")
    tags = f"---\nbase_model: {BASE}\nbase_model_relation: finetune\n---\n"
    (place / "README.md").write_text(tags)
    first, _ = index_run("--relation", "finetune")
    assert first["embedded"] == 1
    shards = {path.name for path in place.glob("*.safetensors*")}
    assert len(shards) > 2
    (made,) = vectors(tmp_path).values()
    assert made.files.keys() == shards | {"config.json", "README.md"}
    (place / "README.md").write_text(tags + "Now with a text.")
    second, asked = index_run("--relation", "finetune")
    assert (second["embedded"], second["kept"]) == (0, 1)
    assert of_adapter(asked) == ["paths-info", "README.md"]
    # A shard alone, under the same index file.
    shard = sorted(place.glob("*.safetensors"))[0]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    third, _ = index_run("--relation", "finetune")
    assert (third["embedded"], third["kept"]) == (1, 0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/api/models/*/paths-info/*", status=503, times=None),
        Fault("/api/models/*/paths-info/*", body=b"[]", times=None),
    ],
    ids=["down", "empty"],
)
def test_where_the_question_is_not_answered_the_vector_is_made(fault, index_run, hub, folder):
    index_run()
    (folder / ADAPTER / "README.md").write_text("Another.")
    hub.faults.add(fault)
    summary, _ = index_run()
    assert (summary["embedded"], summary["kept"]) == (1, 0)


def test_the_adapters_of_a_repository_share_its_card(index_run, folder, tiny_base, hub):
    for step in range(4):
        make_adapter(folder / "a/many" / f"part-{step}", tiny_base, base_name=BASE, seed=step)
    (folder / "a/many/README.md").write_text(
        f"---\nbase_model: {BASE}\nbase_model_relation: adapter\nlibrary_name: peft\n---\nText."
    )
    summary, asked = index_run()
    assert summary["embedded"] == 5
    cards = [path for path in asked if "a/many" in path and path.endswith("README.md")]
    assert len(cards) == 1
    assert summary["resolves"] == 3 + 2 * 4 + 1


def test_what_a_kept_vector_promotes_is_told_of_its_new_commit(index_run, folder, tmp_path):
    index_run()
    (folder / ADAPTER / "README.md").write_text("Another.")
    index_run()
    index = Index.open(tmp_path / "index")
    old, new = rows_of(index.read(PromotionRow, base=BASE).sort_by("read_at"), PromotionRow)
    assert (
        new.revision
        == max(vectors(tmp_path).values(), key=lambda row: row.embedded_at).revision
        != old.revision
    )
    assert (new.promotes, new.promotes_by, new.pool) == (old.promotes, old.promotes_by, old.pool)


def test_a_vector_of_another_recipe_is_not_kept(index_run, folder):
    index_run()
    (folder / ADAPTER / "README.md").write_text("Another.")
    summary, asked = index_run("--pooling", "mean")
    assert (summary["embedded"], summary["kept"]) == (1, 0)
    assert "paths-info" not in of_adapter(asked)


def test_once_the_network_fails_no_more_are_asked_for(index_run, hub, folder, tiny_base):
    names = [ADAPTER, *(f"a/more-{number}" for number in range(5))]
    for seed, name in enumerate(names[1:]):
        add_adapter(folder, tiny_base, name, seed=seed)
    index_run()
    for name in names:
        (folder / name / "README.md").write_text(f"---\nbase_model: {BASE}\n---\nAnother.")
    hub.faults.add(Fault("/api/models/*/paths-info/*", status=503, times=None))
    summary, asked = index_run("--workers", "1")
    assert (summary["embedded"], summary["kept"]) == (len(names), 0)
    assert len({path for path in asked if "/paths-info/" in path}) == 1
