"""A run that is killed at any moment loses nothing, and the next one ends complete."""

import itertools
import os
import random
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import forking
import pytest
from faults import Fault, FaultyHub
from hubs import BASE, add_adapter, add_base

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import VectorRow
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.alone

ADAPTERS = 12
KILLS = 20
AT_ONCE = 2


@pytest.fixture(scope="module")
def hub(tmp_path_factory, tiny_base):
    folder = tmp_path_factory.mktemp("hub")
    add_base(folder, tiny_base)
    for seed in range(ADAPTERS):
        add_adapter(folder, tiny_base, f"a/adapter-{seed}", seed=seed)
    with FaultyHub(folder) as running:
        yield running


@pytest.fixture(scope="module")
def start(hub, tmp_path_factory):
    """Starts a run into an index."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path_factory.mktemp("home")),
    }

    def start_run(index):
        asked = ("index", "--base", BASE, "--index", index, "--batch-size", 2)
        return forking.start(*asked, environment=environment)

    return start_run


def has_vectors(index):
    return any(index.glob("vectors/base=*/2*.parquet"))


def embedded(index):
    with connect(Index.open(index)) as queries:
        (answer,) = queries.run(
            "SELECT count(*) AS n FROM adapters WHERE status = 'embedded'"
        ).to_pylist()
    return answer["n"]


def test_twenty_kills_leave_one_vector_for_each_adapter(start, tmp_path):
    for number in range(2):  # the first also fetches the base
        began = time.monotonic()
        assert start(tmp_path / f"whole-{number}").wait() == 0
        duration = time.monotonic() - began

    def attempt(number):
        """Whether a run was killed after a write; None where it was quicker than the kill."""
        moments = random.Random(number)
        index = tmp_path / f"index-{number}"
        process = start(index)
        if number % 4 < 2:
            time.sleep(moments.uniform(0, duration))
        else:  # what is written comes late and quickly: half of the kills look for it
            give_up = time.monotonic() + 2 * duration
            while not has_vectors(index) and time.monotonic() < give_up:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        after_a_write = has_vectors(index)

        assert start(index).wait() == 0
        stored = Index.open(index).read(VectorRow, base=BASE, columns=["repo_id"])
        assert sorted(stored["repo_id"].to_pylist()) == sorted(
            f"a/adapter-{n}" for n in range(ADAPTERS)
        )
        assert embedded(index) == ADAPTERS
        assert not list(index.rglob("*.tmp"))
        return after_a_write if killed else None

    killed_after_a_write = Counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in itertools.count(0, AT_ONCE):
            killed_after_a_write.update(pool.map(attempt, range(first, first + AT_ONCE)))
            del killed_after_a_write[None]
            if killed_after_a_write.total() >= KILLS:
                break
    # The kills fall both before and after the first write, or they would prove little.
    assert min(killed_after_a_write[False], killed_after_a_write[True]) >= 2, (
        killed_after_a_write,
        duration,
    )


def test_an_interrupt_writes_what_is_in_hand_and_exits_130(start, hub, tmp_path):
    index = tmp_path / "index"
    hub.faults.add(Fault("*/adapter-11/*", delay=2.0, times=None))
    process = start(index)
    while not has_vectors(index):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    hub.faults.clear()

    with connect(Index.open(index)) as queries:
        (run,) = queries.run("FROM runs WHERE kind = 'index'").to_pylist(maps_as_pydicts="strict")
    assert run["outcome"] == "interrupted"
    assert 0 < run["counts"]["embedded"] == embedded(index) < ADAPTERS

    assert start(index).wait() == 0
    assert embedded(index) == ADAPTERS
