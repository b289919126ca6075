"""Settings of the whole process: threads of every library, and how memory is kept."""

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
    """Let torch, BLAS, OpenMP and Arrow use so many threads, by default as many as there are cores.

    OMP_NUM_THREADS is respected where no number is given. That threads sleep while they wait is
    set before torch is loaded (OMP_WAIT_POLICY, in cli.py).

    Returns:
        How many.
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
    """Threads in each of which torch uses that thread alone, whatever it does elsewhere.

    A few that each copy with as many threads as there are cores take twice as long together.
    """
    everywhere = torch.get_num_threads()
    started = Barrier(threads + 1)

    def start() -> None:
        torch.set_num_threads(1)  # of this thread, and of all that torch sees for the first time
        torch.get_num_threads()  # so that it has seen this one
        started.wait()

    executor = ThreadPoolExecutor(threads, thread_name_prefix="hubdelta-copy", initializer=start)
    for _ in range(threads):
        executor.submit(int)
    started.wait()
    torch.set_num_threads(everywhere)
    return executor


def collect_around_what_is_loaded() -> None:
    """Let the garbage collector look no more at the objects that are there by now.

    Libraries and a model are a million objects, and stay; reading adapters makes so many new ones
    that all of those would be looked through every few seconds, while no other thread runs.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # else extensions report what is never freed, as DuckDB's does


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed, up to a gigabyte, instead of giving it back each time.

    A forward pass frees and asks for the same megabytes hundreds of times a second; when each
    comes fresh from the kernel, page faults take a sixth of the time. Only glibc is told.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Setting either ends glibc's own adaptation, so the trim threshold alone would do harm.
    if any(mallopt(_M_MMAP_THRESHOLD, most) for most in (_KEPT // 4, _MOST_BEFORE_2_35)):
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
    else:
        logger.debug("the allocator keeps its own thresholds")
