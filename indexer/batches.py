"""Downloads ahead of the computation, within a budget of bytes, gathered into batches."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeVar

from hubdelta.indexer.engine import Adapter, unexpected
from hubdelta.indexer.obtain import Inspected, Obtainer
from hubdelta.indexer.plan import Pending
from hubdelta.schemas.errors import AdapterError, HubdeltaError, IndexWriteError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_GLANCE = 0.5  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Obtained:
    """One adapter of a batch: read, or the error that kept it from being read.

    Attributes:
        pending: which one.
        result: the adapter, or the error.
        held: bytes of the budget that it takes until its batch is let go.
    """

    pending: Pending
    result: Adapter | AdapterError
    held: int = 0


def batches(
    pending: Sequence[Pending],
    obtainer: Obtainer,
    *,
    batch_size: int,
    workers: int,
    budget: int,
    stop: Event,
) -> Generator[list[Obtained]]:
    """Yield adapters in batches, in the order in which they arrive.

    While the caller computes on a batch, the next one is downloaded, as far as it fits the budget
    together with the batch in hand. A batch is closed early when nothing more can arrive before
    it is let go, so the budget can never block the run.

    Args:
        pending: what to obtain.
        obtainer: inspects, fetches and reads.
        batch_size: adapters in a full batch.
        workers: downloads at once.
        budget: bytes that the weights may take at once, on disk or in memory.
        stop: when set, no more is waited for.
    """
    arrivals = _Arrivals(obtainer, _Budget(budget))
    waiting = deque(pending)
    too_big_for_now: deque[Inspected] = deque()
    running: set[Future[Obtained | Inspected]] = set()
    batch: list[Obtained] = []

    executor = ThreadPoolExecutor(workers, thread_name_prefix="hubdelta-download")
    try:
        while waiting or too_big_for_now or running or batch:
            while waiting and len(running) + len(too_big_for_now) < batch_size + workers:
                running.add(executor.submit(arrivals.inspect, waiting.popleft()))
            while too_big_for_now and arrivals.budget.take(too_big_for_now[0].memory_bytes):
                running.add(executor.submit(arrivals.obtain, too_big_for_now.popleft()))
            if stop.is_set():
                return
            if batch and (len(batch) >= batch_size or not running):
                # Several may have arrived at once; what is over begins the next batch.
                full, batch = batch[:batch_size], batch[batch_size:]
                yield full
                held = sum(obtained.held for obtained in full)
                for done in [obtained.pending for obtained in full]:
                    obtainer.release(done)
                del full  # with the caller's own reference gone, the weights are
                arrivals.budget.give_back(held)
                continue
            arrived, running = wait(running, _GLANCE, return_when=FIRST_COMPLETED)
            for future in arrived:
                result = future.result()
                if isinstance(result, Inspected):
                    too_big_for_now.append(result)
                else:
                    batch.append(result)
    finally:
        executor.shutdown(wait=not stop.is_set(), cancel_futures=True)


class _Budget:
    """Bytes that may be held at once; a single holder may have more than all of them."""

    def __init__(self, size: int) -> None:
        self._size, self._held, self._lock = size, 0, Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if self._held and self._held + size > self._size:
                return False
            self._held += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._held -= size


@dataclass(frozen=True)
class _Arrivals:
    """The work of the download threads."""

    obtainer: Obtainer
    budget: _Budget

    def inspect(self, pending: Pending) -> Obtained | Inspected:
        """Inspect an adapter and, where the budget allows, go on to obtain it."""
        inspected = _attempt(pending, lambda: self.obtainer.inspect(pending))
        if isinstance(inspected, AdapterError):
            return Obtained(pending, inspected)
        if not self.budget.take(inspected.memory_bytes):
            return inspected
        return self.obtain(inspected)

    def obtain(self, inspected: Inspected) -> Obtained:
        """Obtain an adapter for which the budget was taken."""
        pending = inspected.pending
        adapter = _attempt(pending, lambda: self.obtainer.obtain(inspected))
        if isinstance(adapter, AdapterError):
            self.budget.give_back(inspected.memory_bytes)
            return Obtained(pending, adapter)
        return Obtained(pending, adapter, inspected.memory_bytes)


def _attempt(pending: Pending, step: Callable[[], Result]) -> Result | AdapterError:
    """What a step gives, or the error that concerns this adapter alone."""
    try:
        return step()
    except AdapterError as error:
        return error
    except HubdeltaError:
        raise
    except OSError as error:
        # What a file holds was judged where it was read; what is left is this machine's trouble.
        raise IndexWriteError(f"cannot work on the downloads: {error}") from error
    except Exception as error:
        logger.debug("%s", pending.key, exc_info=True)
        return unexpected(error)
