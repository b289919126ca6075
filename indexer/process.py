"""Settings of the whole process: threads of every library, and memory management."""

import atexit
import ctypes
import gc
import logging
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc, malloc.h
_KEPT = 1 << 30  # bytes
_MOST_BEFORE_2_35 = 32 << 20  # bytes, HEAP_MAX_SIZE / 2: older glibcs refuse a higher threshold


def use_threads(threads: int | None) -> int:
    """Let torch, BLAS, OpenMP and Arrow use this many threads; by default one per core.

    OMP_NUM_THREADS is respected if no number is given. OMP_WAIT_POLICY, which makes waiting threads
    sleep, is set before torch is loaded (in cli.py).

    Returns:
        The number used.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if threads is not None and threads > (cores or threads):
        logger.warning("%d threads slow each other on %s", threads, counted(cores or 1, "core"))
    if threads is None:
        asked = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(asked) if asked.isdecimal() and int(asked) else cores or 1
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    pa.set_cpu_count(threads)
    return threads


def threads_of_one_core(threads: int) -> ThreadPoolExecutor:
    """A pool of threads in which torch uses only the current thread, unlike elsewhere.

    If each of them used all cores for copying, they would take twice as long together.
    """
    everywhere = torch.get_num_threads()
    started = Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)  # for this thread, and for all that torch has not seen yet
        torch.get_num_threads()  # so that torch has seen this one
        started.wait()

    executor = ThreadPoolExecutor(threads, thread_name_prefix="hubdelta-copy", initializer=start)
    for _ in range(threads):
        executor.submit(int)
    started.wait()
    torch.set_num_threads(everywhere)
    return executor


def collect_around_what_is_loaded() -> None:
    """Exclude all objects that exist now from garbage collection.

    Libraries and a model are a million permanent objects; reading adapters creates so many new ones
    that all of those would be scanned every few seconds, while no other thread runs.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # or extensions such as DuckDB's report leaks


def keep_freed_memory() -> None:
    """Let the allocator keep up to a gigabyte of freed memory instead of returning it each time.

    A forward pass frees and requests the same megabytes hundreds of times a second; if they come
    fresh from the kernel, page faults take a sixth of the time. Only glibc is supported.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Setting either ends glibc's dynamic adjustment, so setting only the trim threshold would hurt.
    if any(mallopt(_M_MMAP_THRESHOLD, most) for most in (_KEPT // 4, _MOST_BEFORE_2_35)):
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
    else:
        logger.debug("the allocator keeps its own thresholds")
