"""A cache that is damaged, unusable or not writable costs time, never an answer."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest
from random_pool import COUNT, QUESTIONS, add, answers, answers_without
from sharing import forbid_cache

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.cache.ingest import ingest
from hubdelta.sql.connection import Queries, connect

pytestmark = pytest.mark.slow

BLOCK, HEADERS = 2**18, 3 * 4096  # bytes of a DuckDB file


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")


def of_another_version(path: Path) -> None:
    with duckdb.connect(str(path)) as database:
        database.execute("UPDATE facts SET version = 'another'")


def unsettled(path: Path) -> None:
    with duckdb.connect(str(path)) as database:
        database.execute("UPDATE facts SET settled = false")
        database.execute("DELETE FROM sketched WHERE place % 2 = 0")


def without_tables(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE x (y INTEGER)")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "empty": partial(os.truncate, length=0),
    "cut in the headers": partial(os.truncate, length=5000),
    "cut in the middle": partial(os.truncate, length=HEADERS + BLOCK),
    "garbage": lambda path: path.write_bytes(os.urandom(100_000)),
    "no database": lambda path: path.write_text("hello"),
    "garbage in the headers": lambda path: overwrite(path, 0, os.urandom(HEADERS)),
    "of another version": of_another_version,
    "unsettled": unsettled,
    "another database": without_tables,
    "garbage beside it as log": lambda path: log_of(path).write_bytes(os.urandom(10_000)),
    "leftover copies": lambda path: (
        path.with_name(f"{path.name}.12345678.tmp").write_bytes(b"x"),
        path.with_name(f"{path.name}.12345678.tmp.wal").write_bytes(b"x"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_of_no_use_is_made_anew(
    cached: Index, wanted: list[Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGE[damage](path_of(cached))
    assert answers(cached) == wanted
    assert len(warnings(caplog)) <= 1
    caplog.clear()
    assert answers(cached) == wanted
    assert warnings(caplog) == []
    add(cached, 300, 310)
    assert answers(cached)[0][0]["n"] == 310
    assert warnings(caplog) == []
    names = sorted(path.name for path in cached.root.iterdir() if path.is_file())
    assert names == [".cache.lock", ".cache.readers", cache.CACHE_NAME]


def test_a_log_of_what_was_not_checkpointed_is_part_of_the_cache(
    cached: Index, tmp_path: Path
) -> None:
    # What a run leaves that is killed between its last commit and the checkpoint.
    path, sooner = path_of(cached), tmp_path / "sooner"
    known = set(cached.root.rglob("*.parquet"))
    add(cached, 300, 310)
    names = [
        str(new.relative_to(cached.root)) for new in set(cached.root.rglob("*.parquet")) - known
    ]
    with duckdb.connect() as database:
        database.execute("SET checkpoint_threshold = '1GB'")
        database.execute(f"ATTACH '{path}' AS cache")
        ingest(database, cached, sorted(names))
        shutil.copyfile(path, sooner)
        shutil.copyfile(log_of(path), log_of(sooner))
    shutil.copyfile(sooner, path)
    shutil.copyfile(log_of(sooner), log_of(path))
    with connect(cached) as reader:  # so that a copy has to be brought up to date
        assert reader.parquet is None
        assert reader.run(COUNT)["n"].to_pylist() == [310]
        add(cached, 310, 320)
        cache.refresh(cached)
    assert not log_of(path).exists()
    with connect(cached) as queries:
        assert queries.parquet is None
        assert queries.run(COUNT)["n"].to_pylist() == [320]
    assert answers(cached) == answers_without(cached, tmp_path / "other")


def test_damage_that_a_query_finds_is_one_line_and_the_query_is_answered(
    cached: Index, wanted: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(cached)
    with duckdb.connect(str(path), read_only=True) as database:
        (block,) = database.execute(
            "SELECT max(block_id) FROM pragma_storage_info('present_adapters') WHERE persistent"
        ).fetchall()[0]
    overwrite(path, HEADERS + block * BLOCK + BLOCK // 8, os.urandom(BLOCK // 8))
    with connect(cached) as queries:
        assert queries.parquet is None
        assert warnings(caplog) == []
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted
    assert len(warnings(caplog)) == 1
    assert answers(cached) == wanted
    assert len(warnings(caplog)) == 1


def test_where_nothing_can_be_written_a_cache_that_is_up_to_date_is_used(
    cached: Index, wanted: list[Any]
) -> None:
    forbid_cache(cached)
    before = path_of(cached).stat()
    with connect(cached) as queries:
        assert queries.parquet is None
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted
    assert path_of(cached).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("damage", ["deleted", "garbage", "of another version", "unsettled"])
def test_where_nothing_can_be_written_the_parquet_files_answer(
    cached: Index, wanted: list[Any], damage: str
) -> None:
    DAMAGE[damage](path_of(cached))
    forbid_cache(cached)
    with connect(cached) as queries:
        assert queries.parquet is not None
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted


def test_where_nothing_can_be_written_news_are_read_from_the_parquet_files(cached: Index) -> None:
    forbid_cache(cached)
    add(cached, 300, 310)
    with connect(cached) as queries:
        assert queries.run(COUNT)["n"].to_pylist() == [310]


@pytest.fixture(scope="module")
def attacked(pool: Index) -> Iterator[Queries]:
    """A connection that all attack: whatever one of them changes, the next one would notice."""
    with connect(pool) as queries:
        yield queries


@pytest.mark.parametrize(
    "attack",
    [
        "INSERT INTO cache.facts VALUES ('x', true, true, 'y')",
        "UPDATE cache.facts SET linked = false",
        "DELETE FROM cache.stored_vectors",
        "DROP TABLE cache.sketched",
        "CREATE TABLE cache.t AS SELECT 1",
        "ALTER TABLE cache.facts RENAME TO x",
        "WITH w AS (DELETE FROM cache.files RETURNING *) FROM w",
        "DETACH cache",
        "CHECKPOINT cache",
        "USE cache",
        "ATTACH '{path}' AS again",
        "COPY cache.files TO '{path}'",
        "COPY FROM DATABASE cache TO memory",
        "FROM read_blob('{path}')",
        "FROM '{path}'",
        "FROM query_table('cache.files')",
        "FROM hubdelta.stored('catalog')",
        "FROM read_parquet('{parquet}')",
    ],
)
def test_a_query_reaches_no_file_and_changes_nothing(attacked: Queries, attack: str) -> None:
    path = path_of(attacked.index)
    before = path.read_bytes()
    (parquet, *_) = attacked.index.root.glob("vectors/base=*/2*.parquet")
    with pytest.raises(QueryError):
        attacked.run(attack.format(path=path, parquet=parquet))
    assert attacked.run(COUNT)["n"].to_pylist() == [300]
    assert path.read_bytes() == before


def test_even_without_the_check_the_cache_is_read_only(attacked: Queries) -> None:
    for attack in (
        "INSERT INTO cache.facts VALUES ('x', true, true, 'y')",
        "CREATE TABLE cache.t (x INTEGER)",
        "DROP TABLE cache.facts",
    ):
        with pytest.raises(duckdb.Error, match="read-only"):
            attacked.database.execute(attack)
    for attack in ("FROM read_blob('/etc/hostname')", "ATTACH '/tmp/x.db' AS x"):
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            attacked.database.execute(attack)
