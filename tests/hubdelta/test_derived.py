"""What a run leaves beside its rows: a cache that is up to date, and the density clusters."""

import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rows import catalog_row, vector_row

from hubdelta.demo.base import BASE_ID
from hubdelta.demo.pool import SINGLE
from hubdelta.jobs.derived import refresh_cache, refresh_clusters
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import ClusterRow
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import connect

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_the_demo_has_a_cluster_for_each_true_domain(demo):
    with demo.queries() as queries:
        rows = queries.run("SELECT adapter, cluster FROM clusters WHERE base = ?", [BASE_ID])
    cluster = {row["adapter"]: row["cluster"] for row in rows.to_pylist()}
    found = {(adapter.domains[0], cluster[adapter.repo_id]) for adapter in SINGLE}
    assert len(found) == len({domain for domain, _ in found}) == len({n for _, n in found}) == 5


def test_a_run_without_news_writes_no_clusters(demo):
    folder = demo.path / ClusterRow.table
    before = sorted(folder.rglob("*.parquet"))
    assert len(before) > 1
    done = demo.run("index", "--base", BASE_ID)
    assert done.returncode == 0, done.stderr
    assert sorted(folder.rglob("*.parquet")) == before


def test_domains_are_the_clusters_with_names_and_say_how_they_were_found(demo):
    found = demo.ask("domains", "--base", BASE_ID)
    with demo.queries() as queries:
        medoids = queries.run("SELECT cluster, adapter FROM clusters WHERE is_medoid").to_pylist()
    assert {row["domain"]: row["central"] for row in found} == {
        row["cluster"]: row["adapter"] for row in medoids
    }
    assert {row["method"] for row in found} == {"linkage"}, "fewer than 40 adapters"
    assert all(row["name"] != row["central"] for row in found), "terms name each of them"


@pytest.fixture
def two_clusters(tmp_path: Path) -> Index:
    """Three adapters in one direction, three in another."""
    index = Index.create(tmp_path / "index")
    random = np.random.default_rng(0)
    names = [f"{kind}/{number}" for kind in "ab" for number in range(3)]
    index.write([catalog_row(repo_id=name) for name in names], base="org/base")
    index.write(
        [
            vector_row(
                repo_id=name,
                delta=(np.eye(8)["ab".index(name[0])] + random.normal(0, 0.05, 8)).astype("f4"),
            )
            for name in names
        ],
        base="org/base",
    )
    return index


def numbers(index: Index) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    with connect(index) as queries:
        for row in queries.run("SELECT cluster, adapter FROM clusters").to_pylist():
            found.setdefault(row["cluster"], set()).add(row["adapter"][0])
    return found


@pytest.mark.slow
def test_queries_find_the_clusters_of_the_run(two_clusters):
    refresh_clusters(two_clusters, "org/base", run_id="r", now=NOW)
    refresh_cache(two_clusters)
    made = path_of(two_clusters).stat()
    assert numbers(two_clusters) == {1: {"a"}, 2: {"b"}}
    assert path_of(two_clusters).stat().st_mtime_ns == made.st_mtime_ns, "nothing was left to do"


def test_numbers_in_damaged_files_are_not_given_again(two_clusters, caplog):
    refresh_clusters(two_clusters, "org/base", run_id="r", now=NOW)
    (path,) = (two_clusters.root / "clusters").rglob("2*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    refresh_clusters(two_clusters, "org/base", run_id="s", now=NOW)
    assert "left unchanged" in caplog.text
    assert sorted((two_clusters.root / "clusters").rglob("2*.parquet")) == [path]


def test_what_cannot_be_refreshed_is_a_warning(two_clusters, caplog):
    (two_clusters.root / ".cache.lock").mkdir()
    with caplog.at_level(logging.WARNING):
        refresh_cache(two_clusters)
        refresh_clusters(two_clusters, "org/base", run_id="r", now=NOW)
    assert "is not up to date" in caplog.text
