"""The index from Python: the documented examples, the commands' answers, frames, and lightness."""

import doctest
import importlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from rows import catalog_row, vector_row

import hubdelta
from hubdelta import api
from hubdelta.schemas.errors import (
    MissingPackageError,
    NoIndexError,
    QueryError,
    UsageError,
)
from hubdelta.schemas.index import Index
from hubdelta.terminal.formats import write_json

A, B = "mlnights/lora-test-3", "graphsmiths/smollm2-135m-code-and-json"


@pytest.fixture
def answers(capsys):
    """What an answer from Python is in a command's JSON."""

    def as_json(answer: object) -> object:
        import json

        write_json(answer)
        return json.loads(capsys.readouterr().out)

    return as_json


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Two bases, one with vectors of two recipes."""
    made = Index.create(tmp_path / "index")
    later = datetime(2026, 11, 2, tzinfo=UTC)
    made.write([catalog_row(repo_id="a/one"), catalog_row(repo_id="a/two")], base="org/base")
    made.write(
        [
            vector_row(repo_id="a/one", delta=np.array([3, 4], np.float32)),
            vector_row(repo_id="a/two"),
            vector_row(repo_id="a/three", recipe_id="older", delta=np.ones(5, np.float32)),
            vector_row(repo_id="a/noise", signal=0.5),
        ],
        base="org/base",
    )
    made.write([vector_row(repo_id="a/two", embedded_at=later)], base="org/base")
    made.write([catalog_row(repo_id="b/four", base="org/second")], base="org/second")
    return made


def test_the_documented_examples_say_what_they_print(demo, monkeypatch):
    monkeypatch.setenv("HUBDELTA_INDEX", str(demo.path))
    with hubdelta.open_index() as opened:
        names = {"index": opened, "hubdelta": hubdelta}
        result = doctest.testmod(api, extraglobs=names)
    assert result.attempted > 20
    assert result.failed == 0


def test_every_question_has_an_example():
    questions = [name for name in vars(api.OpenIndex) if not name.startswith("_")]
    for name in [*questions, "open_index"]:
        asked = getattr(api.OpenIndex, name, None) or getattr(api, name)
        assert ">>> " in asked.__doc__ or name == "close", name


def test_the_commands_give_the_same_answers(demo, answers):
    with hubdelta.open_index(demo.path) as opened:
        told = demo.ask("similar", A, "-k", "4")
        promoted = {
            row["adapter"]: row["promotes"]
            for row in answers(opened.sql("SELECT adapter, promotes FROM adapters"))
        }
        alike = answers(opened.similar(A, k=4))
        assert told == [row | {"promotes": promoted[row["adapter"]]} for row in alike]
        assert answers(opened.compare(A, B)) == demo.ask("compare", A, B)
        assert answers(opened.domains()) == demo.ask("domains", "--min-size", "1")
        linked = demo.ask("domains", "--distance", "0.25", "--min-size", "1")
        assert answers(opened.domains(distance=0.25)) == linked
        centered = demo.ask("domains", "--center", "--distance", "0.7", "--min-size", "1")
        assert answers(opened.domains(distance=0.7, center=True)) == centered
        assert answers(opened.suggestions()) == demo.ask("label", "--suggest")
        assert answers(opened.status()) == demo.ask("status")
        for method, query in [
            (opened.within(A, 0.2), f"FROM within('{A}', distance := 0.2)"),
            (opened.between(A, B, 3), f"FROM \"between\"('{A}', '{B}', k := 3)"),
            (opened.duplicates(), "FROM duplicates(NULL)"),
            (opened.outliers(k=2), "FROM outliers(NULL, k := 2)"),
            (opened.new_since("2020-01-01"), "FROM new_since('2020-01-01')"),
            (opened.adapters(), "FROM adapters ORDER BY base, adapter"),
            (opened.sql("SELECT ? AS x", [3]), "SELECT 3 AS x"),
        ]:
            assert answers(method) == demo.ask("sql", query)
        (row,) = demo.ask("sql", f"SELECT similarity('{A}', '{B}') AS s")
        assert opened.similarity(A, B) == row["s"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "kind"), [("arrow", pa.Table), ("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_answers_are_the_frames_that_were_asked_for(index, frames, kind):
    with hubdelta.open_index(index.root, frames=frames) as opened:
        compared = opened.compare("a/one", "a/two")
        for answer in [
            *(opened.similar("a/one"), opened.within("a/one"), opened.between("a/one", "a/two")),
            *(opened.domains(), opened.duplicates(), opened.outliers(), opened.adapters()),
            *(opened.suggestions(), opened.new_since("2020-01-01"), opened.status().runs),
            *(opened.sql("SELECT MAP {'k': 1} AS m"), compared.shared, compared.properties),
        ]:
            assert type(answer) is kind
        assert str(opened.similar("a/one")["adapter"][0]) == "a/two"


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_missing_package_is_named(index, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=f"needs {package}: pip install {package}"):
        hubdelta.open_index(index.root, frames=package)


def test_centered_domains_need_a_distance(index):
    with (
        hubdelta.open_index(index.root) as opened,
        pytest.raises(UsageError, match="centered domains need a distance"),
    ):
        opened.domains(distance=None, center=True)


def test_vectors_are_those_that_can_be_compared(index):
    with hubdelta.open_index(index.root) as opened:
        names, matrix = opened.vectors("org/base")
        assert names == ["a/one", "a/two"]
        assert matrix.dtype == np.float32
        assert matrix.tolist() == [[3, 4], [1, 0]]
        names, matrix = opened.vectors("org/second")
        assert (names, matrix.shape) == ([], (0, 0))
        with pytest.raises(UsageError, match="the index has several bases: org/base, org/second"):
            opened.vectors()
        with pytest.raises(QueryError, match="no base org/third"):
            opened.vectors("org/third")


@pytest.mark.slow
def test_vectors_keep_to_the_order_of_their_names_over_many_chunks(tmp_path):
    made = Index.create(tmp_path / "index")
    count, hidden = 5000, 8
    rows = np.random.default_rng(0).normal(size=(count, hidden)).astype(np.float32)
    made.write(
        [vector_row(repo_id=f"a/{n:05}", delta=row) for n, row in enumerate(rows)], base="org/base"
    )
    made.write([catalog_row(repo_id="a/00000")], base="org/base")
    with hubdelta.open_index(made.root) as opened:
        names, matrix = opened.vectors()
    assert names == [f"a/{n:05}" for n in range(count)]
    assert np.array_equal(matrix, rows)


def test_errors_are_the_projects_own(index, tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        hubdelta.open_index(tmp_path / "none")
    with pytest.raises(UsageError, match="no frames 'excel': one of arrow, pandas, polars"):
        hubdelta.open_index(index.root, frames="excel")
    with hubdelta.open_index(index.root) as opened:
        for wrong, error, says in [
            (lambda: opened.similar("a/onee"), QueryError, "did you mean a/one"),
            (lambda: opened.within("a/onee"), QueryError, "no adapter a/onee"),
            (lambda: opened.similarity("a/one", "a/onee"), QueryError, "no adapter a/onee"),
            (lambda: opened.within("a/one", 3), UsageError, "between 0 and 2"),
            (lambda: opened.similar("a/one", 0), UsageError, "from 1 to"),
            (lambda: opened.similar("a/one", 10**20), UsageError, "from 1 to"),
            (lambda: opened.duplicates("org/bas"), QueryError, "did you mean org/base"),
            (lambda: opened.sql("DROP VIEW adapters"), QueryError, "does not run"),
        ]:
            with pytest.raises(error, match=says):
                wrong()
        assert opened.similarity("a/one", "b/four") is None
        assert opened.similar("https://huggingface.co/a/one/tree/main")["adapter"][0].as_py()


def test_the_index_is_found_as_the_commands_find_it(index, monkeypatch):
    monkeypatch.delenv("HUBDELTA_INDEX", raising=False)
    monkeypatch.chdir(index.root.parent)
    index.root.rename(index.root.parent / "hubdelta-index")
    with hubdelta.open_index() as opened:
        assert repr(opened) == "hubdelta.open_index('hubdelta-index', frames='arrow')"
        assert len(opened.adapters()) == 3
    monkeypatch.setenv("HUBDELTA_INDEX", "elsewhere")
    with pytest.raises(NoIndexError, match="elsewhere"):
        hubdelta.open_index()


def test_importing_hubdelta_loads_nothing_of_it():
    code = (
        "import sys; before = set(sys.modules); import hubdelta; "
        "print(sorted(set(sys.modules) - before)); "
        "assert {'open_index', 'OpenIndex', '__version__'} <= set(dir(hubdelta))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True
    )
    assert done.stdout.strip() == "['hubdelta']", done.stderr


def test_the_package_says_what_it_has():
    module = importlib.import_module("hubdelta")
    assert module.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing
