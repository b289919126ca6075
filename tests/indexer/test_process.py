"""Settings of the whole process, seen from outside it: threads of each library, page faults."""

import json
import os
import platform
import subprocess
import sys

import pytest

THREADS = """
import json, sys
import pyarrow, torch
from threadpoolctl import threadpool_info
from hubdelta.indexer.process import use_threads

def seen(asked):
    said = use_threads(asked)
    pools = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    return said, torch.get_num_threads(), pyarrow.cpu_count(), pools

print(json.dumps([seen(asked) for asked in json.loads(sys.argv[1])]))
"""

FAULTS = """
import json, resource, sys
import torch
from hubdelta.indexer.process import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()

def faults(megabytes):
    for _ in range(20):
        torch.ones(megabytes << 18)  # new memory, until the allocator has found its size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(megabytes << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(json.dumps({megabytes: faults(megabytes) for megabytes in (1, 8, 64)}))
"""

ONE_CORE = """
import json, sys
import torch
from hubdelta.indexer.process import threads_of_one_core

torch.set_num_threads(3)
with threads_of_one_core(int(sys.argv[1])) as executor:
    there = list(executor.map(lambda _: torch.get_num_threads(), range(20)))
print(json.dumps([sorted(set(there)), torch.get_num_threads()]))
"""

SPARED = """
import gc, json
import duckdb
from hubdelta.indexer.process import collect_around_what_is_loaded

duckdb.connect().execute("select 1").fetchall()
before = len(gc.get_objects())
collect_around_what_is_loaded()
print(json.dumps(len(gc.get_objects()) < before / 10))
"""


def told(script, argument, **environment):
    """What a script prints in a process of its own, without this one's settings for threads."""
    inherited = {name: value for name, value in os.environ.items() if "NUM_THREADS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "leaked" not in done.stderr
    return json.loads(done.stdout)


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_one_setting_reaches_every_library():
    for asked, seen in zip((2, 1, None), told(THREADS, "[2, 1, null]"), strict=True):
        said, of_torch, of_arrow, pools = seen
        expected = asked or cores()
        assert (said, of_torch, of_arrow) == (expected,) * 3
        assert len(pools) >= 2  # OpenMP, and NumPy's BLAS
        assert set(pools.values()) == {expected}, pools


def test_omp_num_threads_counts_where_no_number_is_given():
    told_three, told_one = told(THREADS, "[null, 1]", OMP_NUM_THREADS="3")

    for expected, (said, of_torch, of_arrow, pools) in ((3, told_three), (1, told_one)):
        assert (said, of_torch, of_arrow) == (expected,) * 3
        assert set(pools.values()) == {expected}, pools


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_freed_memory_is_kept():
    usual, kept = told(FAULTS, "usual"), told(FAULTS, "kept")

    # What is larger than 32 MB glibc alone gives back each time, 4 kB a fault.
    assert usual["64"] > 10 * max(kept["64"], 100)
    # And what it would have kept by itself is kept still.
    for megabytes in ("1", "8"):
        assert kept[megabytes] <= usual[megabytes] + 100


def test_threads_of_one_core_leave_the_others_their_number():
    assert told(ONE_CORE, "4") == [[1], 3]


def test_what_is_loaded_is_not_collected_but_freed_in_the_end():
    assert told(SPARED, "")
