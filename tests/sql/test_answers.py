"""The questions of the command line: neighbors, domains, status, and what an unknown name gets."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from geometry import adapter, write_pairs
from rows import catalog_row, failure_row, vector_row

from hubdelta.schemas.errors import QueryError, UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import TABLES, RunRow
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.questions.answers import domains, similar
from hubdelta.sql.questions.status import status

CRAWLED = datetime(2026, 11, 2, 3, tzinfo=UTC)


def run_row(**changes: object) -> RunRow:
    row: dict[str, object] = {
        "run_id": "r",
        "kind": "crawl",
        "base": "org/base",
        "base_revision": None,
        "outcome": "done",
        "started_at": CRAWLED,
        "seconds": 90.5,
        "requests": 3,
        "counts": {"listed": 5},
        "marks": {},
        "versions": {},
    }
    return RunRow(**row | changes)  # type: ignore[arg-type]


def named(text: str) -> AdapterName:
    """An adapter as a person writes it."""
    return AdapterName.parse(text, must_exist=False)


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queries]:
    index = write_pairs(
        Index.create(tmp_path_factory.mktemp("answers") / "index"),
        adapter("org/legal-lora", 0),
        adapter("org/legal-two", 10),
        adapter("org/many", 20, subfolder="checkpoints/120"),
        adapter("org/other-base", 5, base="org/second"),
    )
    index.write(
        [
            catalog_row(repo_id="org/broken"),
            catalog_row(repo_id="org/gated"),
            catalog_row(repo_id="org/waiting", canonical_base="org/else"),
            catalog_row(repo_id="org/gone", vanished_at=CRAWLED),
            catalog_row(repo_id="org/zero"),
        ],
        base="org/base",
    )
    index.write([vector_row(repo_id="org/zero", delta=np.zeros(2, np.float32))], base="org/base")
    index.write(
        [
            failure_row(repo_id="org/broken", reason="corrupt", message="the file is cut short"),
            failure_row(repo_id="org/gated", reason="gated", message="ask its owner"),
        ],
        base="org/base",
    )
    index.write([run_row()], base="org/base")
    index.write(
        [
            run_row(run_id="s", kind="index", started_at=CRAWLED + timedelta(hours=1)),
            run_row(run_id="t", outcome="failed", started_at=CRAWLED + timedelta(hours=2)),
        ],
        base="org/base",
    )
    with connect(index) as opened:
        yield opened


def test_similar_gives_the_neighbors(queries: Queries) -> None:
    table = similar(queries, named(" org/legal-lora "), 1)
    assert table["adapter"].to_pylist() == ["org/legal-two"]
    assert table["distance"].to_pylist() == [round(1 - np.cos(np.radians(10)), 6)]
    assert len(similar(queries, named("org/legal-lora"))) == 2
    assert similar(queries, named("org/many/checkpoints/120/"), 1)["adapter"].to_pylist() == [
        "org/legal-two"
    ]


def test_similar_takes_a_local_folder_by_any_path(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my adapter"
    index.write([vector_row(repo_id=str(folder)), vector_row(repo_id="a/b")], base="org/base")
    monkeypatch.chdir(tmp_path)
    with connect(index) as queries:
        assert similar(queries, named("./my adapter/"))["adapter"].to_pylist() == ["a/b"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("org/broken", r"org/broken has no vector \(corrupt\): the file is cut short"),
        ("org/waiting", "has no vector yet: no run has embedded it"),
        ("org/gone", "the Hub no longer has it"),
        ("org/zero", "without direction"),
        ("org/legal-lora@" + "f" * 40, f"at {'f' * 40}: the index knows it at {'0' * 40}"),
        ("org/legal-loar", "no adapter org/legal-loar in the index; did you mean org/legal-lora"),
        ("zzz/qqqqqq", "no adapter zzz/qqqqqq in the index$"),
        ("org/many", "did you mean org/many/checkpoints/120"),
        ("'; DROP VIEW adapters; --", "no adapter '; DROP VIEW"),
    ],
)
def test_an_adapter_without_neighbors_is_told_why(queries: Queries, name: str, line: str) -> None:
    with pytest.raises(QueryError, match=line):
        similar(queries, AdapterName(name))


def test_k_and_distance_are_checked(queries: Queries) -> None:
    with pytest.raises(UsageError, match="from 1 to"):
        similar(queries, named("org/legal-lora"), 0)
    for distance in (-0.1, 2.5, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 2"):
            domains(queries, "org/base", distance)


def test_domains_of_one_base_or_of_all(queries: Queries) -> None:
    assert domains(queries, "org/base")["size"].to_pylist() == [3]
    assert domains(queries)["base"].to_pylist() == ["org/base"], "one adapter is no domain"
    assert domains(queries)["method"].to_pylist() == ["linkage at 0.22"]
    assert domains(queries, distance=0.25)["base"].to_pylist() == ["org/base", "org/second"]
    assert domains(queries, "org/base", 0.0)["size"].to_pylist() == [1, 1, 1]


def test_an_unknown_base_is_told_the_known_ones(queries: Queries) -> None:
    for question in (domains, status):
        with pytest.raises(QueryError, match="no base org/nope: it has org/base, org/second"):
            question(queries, "org/nope")


def test_status_counts_each_adapter_once(queries: Queries) -> None:
    first, second = status(queries).bases
    assert (first.base, first.known, first.embedded, first.pending) == ("org/base", 8, 4, 1)
    assert (first.failed, first.vanished) == ({"corrupt": 1, "gated": 1}, 1)
    assert first.contradictions == 1
    assert first.known == (
        first.embedded + first.pending + sum(first.failed.values()) + first.vanished
    )
    assert (second.base, second.known, second.last_crawl) == ("org/second", 1, None)
    assert second.crawl_age is None


def test_status_tells_the_last_runs_and_the_last_crawl_that_was_done(queries: Queries) -> None:
    found = status(queries, "org/base", last_runs=2)
    assert [base.base for base in found.bases] == ["org/base"]
    assert found.runs["run_id"].to_pylist() == ["t", "s"]
    assert found.bases[0].last_crawl == CRAWLED + timedelta(seconds=90.5)
    assert found.bases[0].crawl_age is not None


def test_status_measures_the_files(queries: Queries) -> None:
    paths = list(queries.index.root.rglob("*.parquet"))
    found = status(queries, "org/second")
    assert (found.files, found.bytes) == (len(paths), sum(p.stat().st_size for p in paths))


def test_status_of_an_empty_index(index: Index) -> None:
    with connect(index) as queries:
        found = status(queries)
        assert (found.bases, len(found.runs), found.files) == ([], 0, len(TABLES))
        with pytest.raises(QueryError, match="it is empty"):
            domains(queries, "org/base")
