"""Adapters and whole models in one run: each in its lane, none in the other's way."""

from functools import partial

import pytest
from families import load_model, make_base
from faults import Fault, FaultyHub
from forking import run
from hubs import BASE, add_adapter, add_base

from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import RunRow, VectorRow
from hubdelta.sql.connection import connect

LAYERS = 32  # so many that loading the base and building the finetunes' modules overlap
ADAPTERS = [f"a/adapter-{number}" for number in range(3)]
FINETUNES = [f"a/finetune-{number}" for number in range(2)]
BOTH = ("--relation", "adapter,finetune")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    base = make_base(tmp_path_factory.mktemp("base") / "deep", num_hidden_layers=LAYERS)
    add_base(folder, base)
    for seed, name in enumerate(ADAPTERS):
        add_adapter(folder, base, name, seed=seed)
    for number, name in enumerate(FINETUNES):
        model = load_model(base)
        for parameter in model.parameters():
            parameter.data *= 1.01 + number / 100
        model.save_pretrained(folder / name, max_shard_size="800KB")
        (folder / name / "README.md").write_text(f"---\nbase_model: {BASE}\n---\n")
    with FaultyHub(folder) as running:
        yield running


@pytest.fixture(scope="module")
def hubdelta(hub, tmp_path_factory):
    """Runs `hubdelta` with the Hub."""
    return partial(run, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def healthy(hub):
    yield
    hub.faults.clear()


def embedded(index):
    """Repository → the engine that made its vector."""
    rows = rows_of(Index.open(index).read(VectorRow, base=BASE), VectorRow)
    return {row.repo_id: row.engine for row in rows}


@pytest.mark.parametrize("attempt", range(3))
def test_both_lanes_load_and_compute_at_the_same_time(attempt, hub, hubdelta, tmp_path):
    done = hubdelta("index", "--base", BASE, "--index", tmp_path / "index", *BOTH)
    assert done.returncode == 0, done.stderr
    assert embedded(tmp_path / "index") == {
        **dict.fromkeys(ADAPTERS, "stacked"),
        **dict.fromkeys(FINETUNES, "streamed"),
    }
    (run,) = rows_of(Index.open(tmp_path / "index").read(RunRow, base=BASE), RunRow)[-1:]
    assert run.kind == "index"
    assert {"compute", "stream"} <= run.busy.keys()
    # What is read of a shard with its header, these tiny ones alone feel.
    headers = 100_000 * len(list(hub.folder.glob("a/finetune-*/*.safetensors")))
    assert run.needed_bytes <= run.fetched_bytes <= 1.05 * run.needed_bytes + headers
    assert not (tmp_path / "index" / "downloads").exists()


def test_a_slow_finetune_does_not_keep_adapters_from_being_written(hub, hubdelta, tmp_path):
    index = tmp_path / "index"
    hub.faults.add(Fault(f"*{FINETUNES[0]}*safetensors", delay=0.05, times=None))
    done = hubdelta("index", "--base", BASE, "--index", index, *BOTH, "--batch-size", 1)
    assert done.returncode == 0, done.stderr
    with connect(Index.open(index)) as queries:
        made = queries.run("SELECT adapter FROM vectors ORDER BY embedded_at").to_pylist()
    assert {row["adapter"] for row in made[: len(ADAPTERS)]} == set(ADAPTERS)
