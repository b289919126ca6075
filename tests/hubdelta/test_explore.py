"""`hubdelta explore` and `hubdelta export`, as a user runs them."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import forking
import numpy as np
import pyarrow.parquet as pq
import pytest
from rows import catalog_row, vector_row
from terminal import plain, show

from hubdelta.demo.base import BASE_ID
from hubdelta.schemas.arrow import VERSION_KEY
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES, MapRow
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow


def run(*arguments: object, index: Path, cwd: Path, **environment: str):
    done = forking.run(*arguments, cwd=cwd, HUBDELTA_INDEX=str(index), **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def filled(path: Path, *bases: str, n: int = 4) -> Index:
    """An index with so many adapters of each base."""
    index, rng = Index.create(path), np.random.default_rng(0)
    for base in bases:
        deltas = rng.normal(size=(n, 8)).astype(np.float32)
        index.write([catalog_row(base=base, repo_id=f"a/{i}") for i in range(n)], base=base)
        index.write(
            [vector_row(base=base, repo_id=f"a/{i}", delta=d) for i, d in enumerate(deltas)],
            base=base,
        )
    return index


def data_of(page: Path) -> dict:
    """The payload in a page."""
    found = re.search(
        r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL
    )
    assert found
    return dict(json.loads(found[1]))


def test_the_demo_on_a_map(demo, tmp_path):
    done = run("explore", "--json", index=demo.path, cwd=tmp_path, HF_ENDPOINT=demo.hub.url)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    page = tmp_path / "hubdelta-map.html"
    assert summary["path"] == str(page)
    assert (summary["points"], summary["moved"]) == (28, 0)
    assert [path.name for path in tmp_path.iterdir()] == [page.name]
    data = data_of(page)
    assert (data["base"], data["hub"]) == (BASE_ID, demo.hub.url)
    assert [domain["size"] for domain in data["domains"]] == [6, 6, 5, 5, 4]
    places = np.array([data["columns"]["x"], data["columns"]["y"]]).T
    domains = np.array([-1 if d is None else d for d in data["columns"]["domain"]])
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = domains[apart.argmin(axis=1)]
    assert (nearest == domains)[domains >= 0].mean() > 0.9

    again = run("explore", "--out", "b.html", "--json", index=demo.path, cwd=tmp_path)
    assert json.loads(again.stdout)["moved"] == 0
    assert data_of(tmp_path / "b.html")["columns"]["x"] == data["columns"]["x"]
    assert data_of(tmp_path / "b.html")["hub"] == "https://huggingface.co"

    done = run("export", "--format", "parquet", "--out", "p.parquet", index=demo.path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(tmp_path / "p.parquet")
    assert sorted(table["x"].to_pylist()) == sorted(data["columns"]["x"])
    with demo.queries() as queries:
        assert len(queries.run("FROM maps WHERE base = ?", [BASE_ID])) == 28


def test_the_map_is_kept_and_the_cache_knows(tmp_path):
    index = filled(tmp_path / "index", "org/base", n=9)
    assert run("explore", index=index.root, cwd=tmp_path).returncode == 0
    (file,) = (index.root / "maps").rglob("2*.parquet")
    changed = path_of(index).stat().st_mtime_ns
    with connect(index) as queries:
        assert queries.parquet is None
        assert len(queries.run("FROM maps")) == 9
    assert path_of(index).stat().st_mtime_ns == changed
    assert run("explore", "--text", index=index.root, cwd=tmp_path).returncode == 0
    assert [*(index.root / "maps").rglob("2*.parquet")] == [file]


def test_a_terminal_without_unicode_shows_what_it_can(tmp_path):
    index = filled(tmp_path / "index", "org/base")
    ascii_only = {"HUBDELTA_INDEX": str(index.root), "PYTHONIOENCODING": "ascii"}
    assert re.search(r"angle [\d.]+\?\n", show("compare", "a/0", "a/1", **ascii_only))
    assert "?" in show("explore", "--text", **ascii_only)


def test_an_index_that_cannot_be_written_still_has_a_map(tmp_path):
    index = filled(tmp_path / "index", "org/base")
    (index.root / ".lock").unlink(missing_ok=True)
    (index.root / ".lock").mkdir()
    (index.root / ".cache.lock").mkdir()
    done = run("explore", index=index.root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "could not save the map; it may be laid out differently next time" in done.stderr
    assert len(data_of(tmp_path / "hubdelta-map.html")["columns"]["x"]) == 4
    assert not [*(index.root / "maps").rglob("2*.parquet")]


def test_an_index_of_a_version_without_maps_gets_one(tmp_path):
    index = filled(tmp_path / "index", "org/base")
    shutil.rmtree(index.root / MapRow.table)
    for row_type in TABLES:
        for path in (index.root / row_type.table).rglob("*.parquet"):
            table = pq.read_table(path, partitioning=None)
            pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"2"}), path)
    done = run("explore", index=index.root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([*(index.root / "maps").rglob("2*.parquet")]) == 1


COMMANDS = [
    ["explore"],
    ["explore", "--text"],
    ["export", "--format", "npz", "--out", "x.npz"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_several_bases_ask_for_one(command, tmp_path):
    index = filled(tmp_path / "index", "org/base", "org/other")
    done = run(*command, index=index.root, cwd=tmp_path)
    assert done.returncode == 2
    assert "several bases: org/base, org/other; choose one with --base" in done.stderr
    assert run(*command, "--base", "org/other", index=index.root, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_nothing_to_show_is_a_line(command, tmp_path):
    index = Index.create(tmp_path / "index")
    for arguments, text in (([], "embed adapters first"), (["--base", "o/x"], "no base o/x")):
        done = run(*command, *arguments, index=index.root, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert text in done.stderr
    done = run(*command, index=tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "no index at" in done.stderr


@pytest.mark.parametrize("command", [["explore"], ["export", "--format", "npz"]], ids=" ".join)
def test_where_nothing_can_be_written_a_line_says_so(command, tmp_path):
    index = filled(tmp_path / "index", "org/base")
    for out, code in (("gone/x.html", 2), (tmp_path, 2), ("/dev/null", 2), ("/proc/x.html", 1)):
        done = run(*command, "--out", out, index=index.root, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert "cannot write" in done.stderr
    assert Path("/dev/null").is_char_device()
    assert not [path for path in tmp_path.iterdir() if path.name != "index"]


def test_what_excludes_each_other_is_wrong_usage(tmp_path):
    index = filled(tmp_path / "index", "org/base")
    for other in (["--json"], ["--open"], ["--out", "x.html"]):
        assert run("explore", "--text", *other, index=index.root, cwd=tmp_path).returncode == 2
    atlas = ("export", "--format", "embedding-atlas", "--out", "atlas")
    done = run(*atlas, index=index.root, cwd=tmp_path)
    assert (done.returncode, "atlas.parquet" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("endpoint", "hub"),
    [
        ("https://hub.example.org/", "https://hub.example.org"),
        ("https://me:secret@hub.example.org:8443/hf", "https://hub.example.org:8443/hf"),
        ("javascript:alert(1)", "https://huggingface.co"),
        ("file:///etc", "https://huggingface.co"),
        ("http://[broken", "https://huggingface.co"),
        ("", "https://huggingface.co"),
    ],
)
def test_repositories_are_linked_to_the_hub_in_use(endpoint, hub, monkeypatch):
    from hubdelta.settings import hub_url

    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert hub_url() == hub


def test_open_shows_the_page_in_a_browser(tmp_path):
    index = filled(tmp_path / "index", "org/base")
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 > {tmp_path}/shown\n")
    browser.chmod(0o755)
    done = run("explore", "--open", index=index.root, cwd=tmp_path, BROWSER=f"{browser} %s")
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "shown").read_text().strip()
    assert shown == (tmp_path / "hubdelta-map.html").as_uri()


def test_a_terminal_shows_the_map_and_names_cannot_steer_it(tmp_path, monkeypatch):
    index = filled(tmp_path / "index", "org/base", n=3)
    evil = "\x1b]0;owned\x07[red]"
    index.write(
        [
            catalog_row(repo_id=f"a/{i}", tags=[evil], crawled_at=datetime(2027, 1, 1, tzinfo=UTC))
            for i in range(3)
        ],
        base="org/base",
    )
    monkeypatch.chdir(tmp_path)
    asked = ("explore", "--distance", "2", "--index", index.root)
    shown = show(*asked, columns=60, rows=24)
    assert "hubdelta-map.html: 3 adapters in 1 domain" in shown
    assert any("\u2800" < character <= "\u28ff" for character in shown)
    assert "\x1b[1;36m" in shown
    assert "\x1b]0" not in shown
    assert "\x07" not in shown
    assert max(map(len, plain(shown))) <= 60
    assert len(plain(shown)) <= 24


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        (["explore"], b"<!DOCTYPE html>"),
        (["export", "--format", "parquet"], b"PAR1"),
        (["export", "--format", "npz"], b"PK"),
        (["export", "--format", "embedding-atlas"], b"PAR1"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_minus_is_standard_output(command, begins, tmp_path):
    index = filled(tmp_path / "index", "org/base")
    done = forking.run_bytes(*command, "--out", "-", "--index", index.root, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout[: len(begins)].lower() == begins.lower()
    assert done.stderr.startswith(b"standard output: 4 adapters")
    assert not (tmp_path / "-").exists()
