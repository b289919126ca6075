"""Processes that read, refresh or die at once: each answer is that of one moment of the index."""

from __future__ import annotations

import logging
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from random_pool import COUNT, QUESTIONS, add, answers, answers_without
from rows import catalog_row
from sharing import copy_of

from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["hubdelta.sql.connection"])

NIGHTS = [datetime(2026, 12, day, tzinfo=UTC) for day in range(1, 5)]


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


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, list[Any]]:
    """2,000 random vectors and their cache, to be read only, and what they answer."""
    index = Index.create(tmp_path_factory.mktemp("large") / "index")
    add(index, 0, 2000)
    cache.refresh(index)
    return index, answers(index)


@pytest.mark.parametrize("connections", [1, 2])
def test_another_process_keeps_what_it_sees_while_the_cache_is_refreshed(
    large: tuple[Index, list[Any]], tmp_path: Path, connections: int
) -> None:
    whole, before = large
    index = copy_of(whole, tmp_path / "index")
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
    cached: Index, tmp_path: Path, from_nothing: bool
) -> None:
    random.seed(7)
    took = 0.5
    for attempt in range(6):
        add(cached, 300 + 20 * attempt, 320 + 20 * attempt)
        if from_nothing:
            cache.remove(cached)
        process = PROCESSES.Process(target=cache.refresh, args=(cached,))
        process.start()
        time.sleep(random.uniform(0.02, took))
        process.kill()
        process.join()
        started = time.monotonic()
        with connect(cached) as queries:
            assert queries.parquet is None
            assert queries.run(COUNT)["n"].to_pylist() == [320 + 20 * attempt]
        took = min(took, time.monotonic() - started + 0.1)
    assert answers(cached) == answers_without(cached, tmp_path / "other")
    assert not list(cached.root.glob("*.tmp*"))


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_without_space_the_parquet_files_answer_and_one_line_says_so(
    cached: Index, open_elsewhere: bool
) -> None:
    if not open_elsewhere:
        cache.remove(cached)
    with reading(cached) if open_elsewhere else nullcontext():
        add(cached, 300, 600)
        has_cache, found, lines = told(connect_without_space, cached)
    assert not has_cache
    assert found == answers(cached)
    assert len(lines) == 1
    assert "cannot be brought up to date" in lines[0]
    assert not list(cached.root.glob("*.tmp*"))
