"""A cache that is damaged, locked, half written or not writable costs time, never an answer."""

import logging
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from rows import catalog_row, vector_row

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.sql import cache
from hubdelta.sql.connection import connect
from hubdelta.sql.ingest import ingest

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["hubdelta.sql.connection"])

BLOCK, HEADERS = 2**18, 3 * 4096  # bytes of a DuckDB file

NIGHTS = [datetime(2026, 12, day, tzinfo=UTC) for day in range(1, 5)]

COUNT = "SELECT count(*) AS n, sum(delta[1]) AS x FROM vectors"
QUESTIONS = [
    COUNT,
    "FROM neighbors('a/0000', k := 5)",
    "SELECT adapter, status, downloads FROM adapters ORDER BY adapter",
    "SELECT size, members FROM domains(NULL, distance := 0.5)",
]


def add(index: Index, start: int, stop: int, hidden: int = 64) -> None:
    rng = np.random.default_rng(start)
    names = [f"a/{i:04}" for i in range(start, stop)]
    index.write([catalog_row(repo_id=name) for name in names], base="org/base")
    index.write(
        [
            vector_row(repo_id=name, delta=rng.normal(size=hidden).astype(np.float32))
            for name in names
        ],
        base="org/base",
    )


@pytest.fixture
def cached(index: Index) -> Index:
    add(index, 0, 300)
    cache.refresh(index)
    return index


def answers(index: Index) -> list[Any]:
    with connect(index) as queries:
        return [queries.run(query).to_pylist() for query in QUESTIONS]


def answers_without(index: Index, place: Path) -> list[Any]:
    """What a copy of the index answers that never had a cache."""
    shutil.copytree(index.root, place, ignore=shutil.ignore_patterns(f"{cache.CACHE_NAME}*"))
    return answers(Index.open(place))


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
    cached: Index, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = answers(cached)
    DAMAGE[damage](cache.path_of(cached))
    assert answers(cached) == wanted
    assert len(warnings(caplog)) <= 1
    caplog.clear()
    assert answers(cached) == wanted
    assert warnings(caplog) == []
    add(cached, 300, 310)
    assert answers(cached)[0][0]["n"] == 310
    assert warnings(caplog) == []
    names = sorted(path.name for path in cached.root.iterdir() if path.is_file())
    assert names == [".cache.lock", cache.CACHE_NAME]


def test_a_log_of_what_was_not_checkpointed_is_part_of_the_cache(
    cached: Index, tmp_path: Path
) -> None:
    # What a run leaves that is killed between its last commit and the checkpoint.
    path, sooner = cache.path_of(cached), tmp_path / "sooner"
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
    cached: Index, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = answers(cached)
    path = cache.path_of(cached)
    with duckdb.connect(str(path), read_only=True) as database:
        (block,) = database.execute(
            "SELECT max(block_id) FROM pragma_storage_info('deltas_64') WHERE persistent"
        ).fetchall()[0]
    overwrite(path, HEADERS + block * BLOCK + BLOCK // 8, os.urandom(BLOCK // 8))
    with connect(cached) as queries:
        assert queries.parquet is None
        assert warnings(caplog) == []
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted
    assert len(warnings(caplog)) == 1
    assert answers(cached) == wanted
    assert len(warnings(caplog)) == 1


# Functions that other processes run.


def keep_open(index: Index, pipe: Connection, connections: int) -> None:
    """Ask when told to; all connections but the first are closed again at once."""
    with connect(index) as queries:
        for _ in range(connections - 1):
            connect(index).close()
        pipe.send("open")
        while pipe.recv():
            pipe.send([queries.run(query).to_pylist() for query in QUESTIONS])


def connect_and_count(index: Index, pipe: Connection) -> None:
    with connect(index) as queries:
        pipe.send(queries.run(COUNT).to_pylist())


def connect_without_space(index: Index, pipe: Connection) -> None:
    """Connect where no file can grow beyond 100 kB."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("hubdelta").addHandler(handler)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with connect(index) as queries:
        found = [queries.run(query).to_pylist() for query in QUESTIONS]
        pipe.send((queries.parquet is None, found, lines))


@contextmanager
def reading(index: Index, connections: int = 1) -> Iterator[Callable[[], list[Any]]]:
    """Another process that has the index open; what it answers when asked."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=keep_open, args=(index, there, connections))
    process.start()

    def ask() -> list[Any]:
        here.send(True)
        assert here.poll(60)
        return list(here.recv())

    assert here.poll(60)
    assert here.recv() == "open"
    yield ask
    here.send(False)
    process.join(30)
    assert process.exitcode == 0


def told(target: Callable[..., None], index: Index) -> Any:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(index, there))
    process.start()
    there.close()
    assert here.poll(60)
    found = here.recv()
    process.join(30)
    assert process.exitcode == 0
    return found


@pytest.mark.parametrize("connections", [1, 2])
def test_another_process_keeps_what_it_sees_while_the_cache_is_refreshed(
    index: Index, tmp_path: Path, connections: int
) -> None:
    add(index, 0, 2000)
    before = answers(index)
    with reading(index, connections) as ask:
        for night in range(1, 4):
            index.write(
                [
                    catalog_row(repo_id=f"a/{i:04}", downloads=night, crawled_at=NIGHTS[night])
                    for i in range(2000)
                ],
                base="org/base",
            )
            add(index, 2000 + night, 2001 + night)
            cache.refresh(index)
        assert ask() == before
        after = answers(index)
        assert after[0][0]["n"] == 2003
        assert after == answers_without(index, tmp_path / "other")


def test_two_connections_of_a_process_see_each_what_was_there(cached: Index) -> None:
    with connect(cached) as first:
        add(cached, 300, 400)
        with connect(cached) as second:
            add(cached, 400, 500)
            cache.refresh(cached)
            with connect(cached) as third:
                for queries, n in [(first, 300), (second, 400), (third, 500)]:
                    assert queries.run(COUNT)["n"].to_pylist() == [n]
                    assert queries.run("SELECT count(*) FROM adapters").column(0).to_pylist() == [n]


def test_ten_processes_that_find_no_cache_all_answer(index: Index) -> None:
    add(index, 0, 50)
    pipes = []
    for _ in range(10):
        here, there = PROCESSES.Pipe()
        PROCESSES.Process(target=connect_and_count, args=(index, there)).start()
        pipes.append(here)
    assert all(pipe.poll(60) for pipe in pipes)
    found = [pipe.recv() for pipe in pipes]
    assert found == [found[0]] * 10
    assert found[0][0]["n"] == 50


@pytest.mark.parametrize("from_nothing", [False, True])
def test_a_refresh_that_is_killed_costs_no_answer(
    index: Index, tmp_path: Path, from_nothing: bool
) -> None:
    add(index, 0, 400)
    cache.refresh(index)
    random.seed(7)
    took = 0.5
    for attempt in range(6):
        add(index, 400 + 20 * attempt, 420 + 20 * attempt)
        if from_nothing:
            cache.remove(index)
        process = PROCESSES.Process(target=cache.refresh, args=(index,))
        process.start()
        time.sleep(random.uniform(0.02, took))
        process.kill()
        process.join()
        started = time.monotonic()
        with connect(index) as queries:
            assert queries.parquet is None
            assert queries.run(COUNT)["n"].to_pylist() == [420 + 20 * attempt]
        took = min(took, time.monotonic() - started + 0.1)
    assert answers(index) == answers_without(index, tmp_path / "other")
    assert not list(index.root.glob("*.tmp*"))


def test_where_nothing_can_be_written_a_cache_that_is_up_to_date_is_used(
    cached: Index, forbid_cache: Callable[[Index], None]
) -> None:
    wanted = answers(cached)
    forbid_cache(cached)
    before = cache.path_of(cached).stat()
    with connect(cached) as queries:
        assert queries.parquet is None
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted
    assert cache.path_of(cached).stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("damage", ["deleted", "garbage", "of another version", "unsettled"])
def test_where_nothing_can_be_written_the_parquet_files_answer(
    cached: Index, forbid_cache: Callable[[Index], None], damage: str
) -> None:
    wanted = answers(cached)
    DAMAGE[damage](cache.path_of(cached))
    forbid_cache(cached)
    with connect(cached) as queries:
        assert queries.parquet is not None
    assert answers(cached) == wanted


def test_where_nothing_can_be_written_news_are_read_from_the_parquet_files(
    cached: Index, forbid_cache: Callable[[Index], None]
) -> None:
    forbid_cache(cached)
    add(cached, 300, 310)
    with connect(cached) as queries:
        assert queries.run(COUNT)["n"].to_pylist() == [310]


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_without_space_the_parquet_files_answer_and_one_line_says_so(
    index: Index, open_elsewhere: bool
) -> None:
    add(index, 0, 300)
    if open_elsewhere:
        cache.refresh(index)
    with reading(index) if open_elsewhere else _nothing():
        add(index, 300, 600)
        cached, found, lines = told(connect_without_space, index)
    assert not cached
    assert found == answers(index)
    assert len(lines) == 1
    assert "cannot be brought up to date" in lines[0]
    assert not list(index.root.glob("*.tmp*"))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize(
    "attack",
    [
        "INSERT INTO cache.facts VALUES ('x', true, true)",
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
def test_a_query_reaches_no_file_and_changes_nothing(cached: Index, attack: str) -> None:
    path = cache.path_of(cached)
    before = path.read_bytes()
    (parquet, *_) = cached.root.glob("vectors/base=*/*.parquet")
    with connect(cached) as queries:
        with pytest.raises(QueryError):
            queries.run(attack.format(path=path, parquet=parquet))
        assert queries.run(COUNT)["n"].to_pylist() == [300]
    assert path.read_bytes() == before


def test_even_without_the_check_the_cache_is_read_only(cached: Index) -> None:
    with connect(cached) as queries:
        for attack in (
            "INSERT INTO cache.facts VALUES ('x', true, true)",
            "CREATE TABLE cache.t (x INTEGER)",
            "DROP TABLE cache.facts",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                queries.database.execute(attack)
        for attack in ("FROM read_blob('/etc/hostname')", "ATTACH '/tmp/x.db' AS x"):
            with pytest.raises(duckdb.Error, match="disabled by configuration"):
                queries.database.execute(attack)
