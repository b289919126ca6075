"""What goes wrong outside: each ends in a line that a person can act on, and loses nothing."""

import json
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import forking
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from families import make_adapter, make_base
from faults import Fault, FaultyHub
from hubs import BASE, add_adapter, add_base

from hubdelta.hub_server import keep_revision
from hubdelta.schemas.arrow import VERSION_KEY, rows_of, table_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import RunRow, VectorRow
from hubdelta.sql.connection import connect

NAMES = ["a/one", "a/two", "a/three"]
NOW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def folder(tmp_path, tiny_base) -> Path:
    hub = tmp_path / "hub"
    add_base(hub, tiny_base)
    add_base(hub, tiny_base, "tiny/childless")
    for seed, name in enumerate(NAMES):
        add_adapter(hub, tiny_base, name, seed=seed)
    return hub


@pytest.fixture
def hub(folder):
    with FaultyHub(folder) as running:
        yield running


@pytest.fixture
def hubdelta(hub, tmp_path):
    """Runs `hubdelta` as a user would, with an index and a Hub of its own."""

    def run(*arguments, **environment):
        own = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HUBDELTA_INDEX": str(tmp_path / "index"),
        }
        done = forking.run(*arguments, timeout=120, **(own | environment))
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def outcomes(path: Path) -> dict[str, str]:
    with connect(Index.open(path)) as queries:
        rows = queries.run("SELECT adapter, coalesce(reason, status) AS outcome FROM adapters")
    return {row["adapter"]: row["outcome"] for row in rows.to_pylist()}


def test_an_unknown_base(hubdelta):
    done = hubdelta("index", "--base", "tiny/nobody")
    assert done.returncode == 1
    assert "tiny/nobody" in done.stderr


def test_a_base_without_adapters_is_no_error(hubdelta):
    done = hubdelta("index", "--base", "tiny/childless")
    assert done.returncode == 0
    assert "embedded  0" in done.stdout


def test_a_wrong_token(hubdelta, folder):
    (folder / ".hub.yaml").write_text("tokens: {hf_right: '*'}\n")
    done = hubdelta("crawl", "--base", BASE, HF_TOKEN="hf_wrong")
    assert done.returncode == 1
    assert "token" in done.stderr
    assert "hf_wrong" not in done.stderr + done.stdout
    assert hubdelta("crawl", "--base", BASE, HF_TOKEN="hf_right").returncode == 0


def test_two_runs_at_once(hubdelta, hub):
    hub.faults.add(Fault("/api/models", delay=3))
    first = threading.Thread(target=hubdelta, args=("crawl", "--base", BASE))
    first.start()
    while not any(request.path == f"/api/models/{BASE}" for request in hub.requests):
        time.sleep(0.02)
    second = hubdelta("crawl", "--base", BASE)
    assert second.returncode == 1
    assert "another run" in second.stderr
    third = hubdelta("crawl", "--base", BASE, "--wait", "--json")
    assert third.returncode == 0
    assert json.loads(third.stdout)["new"] == 0
    first.join()


def test_an_index_of_a_newer_version(hubdelta, tmp_path):
    hubdelta("crawl", "--base", BASE)
    table = pa.table({"base": [BASE]}).replace_schema_metadata({VERSION_KEY: b"99"})
    pq.write_table(table, tmp_path / "index" / "runs" / "schema-v99.parquet")
    for command in (["status"], ["index", "--base", BASE]):
        done = hubdelta(*command)
        assert done.returncode == 1
        assert "newer hubdelta" in done.stderr


def test_a_damaged_vector_file_is_named_and_its_adapters_are_embedded_again(hubdelta, tmp_path):
    index = tmp_path / "index"
    assert hubdelta("index", "--base", BASE).returncode == 0
    (damaged,) = index.glob("vectors/base=*/2*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:200])

    done = hubdelta("status")
    assert done.returncode == 0
    assert str(damaged) in done.stderr
    assert hubdelta("index", "--base", BASE).returncode == 0
    assert outcomes(index) == dict.fromkeys(NAMES, "embedded")


@pytest.mark.parametrize("harm", [lambda file: file.write_bytes(b"junk"), Path.unlink])
def test_a_lost_catalog_is_crawled_again(harm, hubdelta, tmp_path):
    index = tmp_path / "index"
    assert hubdelta("crawl", "--base", BASE).returncode == 0
    (file,) = index.glob("catalog/base=*/2*.parquet")
    harm(file)
    # Long after: the incremental crawl would no longer look at these repositories.
    runs = next(path for path in index.glob("runs/*.parquet") if "schema" not in path.name)
    (run,) = rows_of(pq.read_table(runs), RunRow)
    run = replace(run, marks=dict.fromkeys(run.marks, NOW))
    pq.write_table(table_of([run], RunRow), runs)

    assert json.loads(hubdelta("crawl", "--base", BASE, "--json").stdout)["new"] == len(NAMES)


def test_a_full_disk_ends_the_run_in_a_line_and_the_next_goes_on(hubdelta, tmp_path):
    index = tmp_path / "index"
    index.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", index]
    mounted = subprocess.run(mount, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        assert hubdelta("crawl", "--base", BASE).returncode == 0
        ballast = index / "ballast"
        with pytest.raises(OSError, match="No space"), ballast.open("wb") as file:
            file.write(bytes(8 << 20))
        done = hubdelta("index", "--base", BASE, "--no-crawl")
        assert done.returncode == 1
        assert "no disk space" in done.stderr
        ballast.unlink()
        assert hubdelta("index", "--base", BASE, "--no-crawl").returncode == 0
        assert outcomes(index) == dict.fromkeys(NAMES, "embedded")
    finally:
        subprocess.run(["umount", index], check=True)


def test_a_repo_that_changed_since_the_crawl_is_indexed_as_cataloged(
    hubdelta, folder, tiny_base, tmp_path
):
    hubdelta("crawl", "--base", BASE)
    kept = keep_revision(folder, "a/one")
    make_adapter(folder / "a/one", tiny_base, base_name=BASE, seed=77)  # the old commit is served
    make_adapter(folder / "a/two", tiny_base, base_name=BASE, seed=78)  # the old commit is gone
    assert hubdelta("index", "--base", BASE, "--no-crawl").returncode == 0

    with connect(Index.open(tmp_path / "index")) as queries:
        (row,) = queries.run("SELECT revision FROM vectors WHERE repo_id = 'a/one'").to_pylist()
    assert row["revision"] == kept
    assert outcomes(tmp_path / "index") == {
        "a/one": "embedded",
        "a/two": "not_found",
        "a/three": "embedded",
    }
    assert hubdelta("index", "--base", BASE).returncode == 0
    assert outcomes(tmp_path / "index") == dict.fromkeys(NAMES, "embedded")


def test_strict_says_that_adapters_failed(hubdelta, folder):
    (folder / "a/two" / "adapter_model.safetensors").unlink()
    assert hubdelta("index", "--base", BASE).returncode == 0
    assert hubdelta("index", "--base", BASE, "--retry-failed", "--strict").returncode == 3


def test_adapters_named_by_hand_need_no_crawl(hubdelta, folder, hub, tmp_path, tiny_base):
    mirror = add_base(folder, tiny_base, "quants/base-bnb-4bit")
    card = f"---\nbase_model: {BASE}\nbase_model_relation: quantized\n---\n"
    (mirror / "README.md").write_text(card)
    local = make_adapter(tmp_path / "local", tiny_base, seed=9, base_name="quants/base-bnb-4bit")
    other = make_adapter(tmp_path / "other", tiny_base, seed=9, base_name="some/other-model")
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\na/two\na/two@main\n\n{local}  # from yesterday\n")
    done = hubdelta(
        "index", "--base", BASE, "a/one", "a/nobody", other, "--from-file", listed, "--json"
    )
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["embedded"], summary["failed"], summary["missing"]) == (
        3,
        {"not_found": 1, "base_mismatch": 1},
        ["a/nobody"],
    )
    assert hubdelta("index", "--base", BASE, "a/nobody").returncode == 1
    assert not [request for request in hub.requests if request.path == "/api/models"]
    found = json.loads(hubdelta("similar", local, "--json").stdout)
    assert {row["adapter"] for row in found} == {"a/one", "a/two"}


def test_base_and_adapters_in_local_folders_need_no_hub(hubdelta, tmp_path, tiny_base):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    first, second = (make_adapter(tmp_path / f"x{seed}", base, seed=seed) for seed in (1, 2))
    other = make_base(tmp_path / "other", hidden_size=64)
    wrong = make_adapter(tmp_path / "wrong", other)
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = hubdelta("index", "--base", base, first, second, wrong, "--json", **dead)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["embedded"], summary["failed"]) == (2, {"base_mismatch": 1})
    stored = Index.open(tmp_path / "index").read(VectorRow, base=str(base), columns=["repo_id"])
    assert sorted(stored["repo_id"].to_pylist()) == [str(first), str(second)]
    assert hubdelta("index", "--base", base).returncode == 2


def test_full_finetunes_are_embedded_when_asked_for(hubdelta, folder, tmp_path):
    make_base(folder / "a/finetuned", seed=5)
    (folder / "a/finetuned/README.md").write_text(f"---\nbase_model: {BASE}\n---\n")
    make_base(folder / "a/larger", hidden_size=64)
    shutil.copy(folder / "a/finetuned/README.md", folder / "a/larger")
    summary = json.loads(hubdelta("index", "--base", BASE, "--json").stdout)
    assert summary["embedded"] == 3
    make_base(folder / "a/endless")
    config = json.loads((folder / "a/endless/config.json").read_bytes())
    config["num_hidden_layers"] = 10**6
    (folder / "a/endless/config.json").write_text(json.dumps(config))
    shutil.copy(folder / "a/finetuned/README.md", folder / "a/endless")
    both = ("--relation", "adapter,finetune")
    summary = json.loads(hubdelta("index", "--base", BASE, *both, "--json").stdout)
    assert summary["embedded"] == 1
    assert outcomes(tmp_path / "index")["a/finetuned"] == "embedded"
    assert outcomes(tmp_path / "index")["a/larger"] == "base_mismatch"
    assert outcomes(tmp_path / "index")["a/endless"] == "base_mismatch"


def test_a_file_in_place_of_a_tables_folder_is_told_in_a_line(hubdelta, tmp_path):
    index = tmp_path / "index"
    Index.create(index)
    shutil.rmtree(index / "vectors")
    (index / "vectors").touch()
    for command in (["status"], ["sql", "FROM adapters"], ["crawl", "--base", BASE]):
        done = hubdelta(*command)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"{index / 'vectors'} is a file where a folder belongs: move it away" in line
