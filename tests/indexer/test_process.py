"""Settings of the whole process, seen from outside it: threads of each library, page faults."""

import json
import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import gc, json, os, resource, sys
import duckdb, pyarrow, torch
from threadpoolctl import threadpool_info
from hubdelta.indexer.process import (
    collect_around_what_is_loaded, keep_freed_memory, threads_of_one_core, use_threads
)

def threads(*numbers):
    def seen(asked):
        said = use_threads(asked)
        pools = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
        return said, torch.get_num_threads(), pyarrow.cpu_count(), pools
    return [seen(asked) for asked in numbers]

def faults(keep):
    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    def counted(megabytes):
        for _ in range(5):
            torch.ones(megabytes << 18)  # new memory, until the allocator has found its size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(megabytes << 18)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {megabytes: counted(megabytes) for megabytes in (1, 8, 64)}

def one_core(cores):
    torch.set_num_threads(3)
    with threads_of_one_core(cores) as executor:
        there = list(executor.map(lambda _: torch.get_num_threads(), range(20)))
    return sorted(set(there)), torch.get_num_threads()

def spared():
    duckdb.connect().execute("select 1").fetchall()
    before = len(gc.get_objects())
    collect_around_what_is_loaded()
    return len(gc.get_objects()) < before / 10

for name, arguments in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        print(json.dumps(globals()[name](*arguments)))
        sys.exit()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name}{arguments} failed")
"""
"""Calls the functions that it is given, each in a child that is forked when all is imported."""


def told(*calls, **environment):
    """What each call of a function of the script returns, without this process's threads."""
    inherited = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(calls)],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "leaked" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def seen():
    """By what is called: what it returns where no number of threads is in the environment."""
    calls = {
        "threads": ["threads", [2, 1, None]],
        "faults": ["faults", [False]],
        "faults where memory is kept": ["faults", [True]],
        "one core": ["one_core", [4]],
        "spared": ["spared", []],
    }
    return dict(zip(calls, told(*calls.values()), strict=True))


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_one_setting_reaches_every_library(seen):
    for asked, (said, of_torch, of_arrow, pools) in zip((2, 1, None), seen["threads"], strict=True):
        expected = asked or cores()
        assert (said, of_torch, of_arrow) == (expected,) * 3
        assert len(pools) >= 2  # OpenMP, and NumPy's BLAS
        assert set(pools.values()) == {expected}, pools


def test_omp_num_threads_counts_where_no_number_is_given():
    [(told_three, told_one)] = told(["threads", [None, 1]], OMP_NUM_THREADS="3")

    for expected, (said, of_torch, of_arrow, pools) in ((3, told_three), (1, told_one)):
        assert (said, of_torch, of_arrow) == (expected,) * 3
        assert set(pools.values()) == {expected}, pools


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_kept(seen):
    usual, kept = seen["faults"], seen["faults where memory is kept"]

    # What is larger than 32 MB glibc alone gives back each time, 4 kB a fault.
    assert usual["64"] > 10 * max(kept["64"], 100)
    # And what it would have kept by itself is kept still.
    for megabytes in ("1", "8"):
        assert kept[megabytes] <= usual[megabytes] + 100


def test_threads_of_one_core_leave_the_others_their_number(seen):
    assert seen["one core"] == [[1], 3]


def test_what_is_loaded_is_not_collected_but_freed_in_the_end(seen):
    assert seen["spared"]
