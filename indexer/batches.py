"""Downloads ahead of the computation, within a budget of bytes, gathered into batches."""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import Any

from hubdelta.indexer.engine import Adapter
from hubdelta.indexer.obtain import Inspected, Obtainer
from hubdelta.indexer.plan import Pending
from hubdelta.schemas.errors import AdapterError

_GLANCE = 0.5  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Obtained:
    """One adapter of a batch: read, or the error that kept it from being read."""

    pending: Pending
    result: Adapter | AdapterError


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

    While the caller computes on a batch, the downloads that were begun go on; no more are begun
    than fit the budget together with the batch. A batch is closed early when nothing more can
    arrive before it is let go, so the budget can never block the run.

    Args:
        pending: what to obtain.
        obtainer: inspects, fetches and reads.
        batch_size: adapters in a full batch.
        workers: downloads at once.
        budget: bytes of weights that may be on disk or in memory at once.
        stop: when set, no more is waited for.
    """
    waiting = deque(pending)
    admissible: deque[Inspected] = deque()
    running: dict[Future[Any], tuple[Pending, int]] = {}
    ahead = batch_size + workers
    held = 0
    batch: list[Obtained] = []
    batch_bytes = 0

    executor = ThreadPoolExecutor(workers, thread_name_prefix="hubdelta-download")
    try:
        while waiting or admissible or running or batch:
            while waiting and len(running) + len(admissible) < ahead:
                item = waiting.popleft()
                running[executor.submit(obtainer.inspect, item)] = (item, 0)
            while admissible and (held == 0 or held + admissible[0].weight_bytes <= budget):
                ready = admissible.popleft()
                held += ready.weight_bytes
                future = executor.submit(obtainer.obtain, ready)
                running[future] = (ready.pending, ready.weight_bytes)
            if batch and (len(batch) >= batch_size or not running):
                yield batch
                for obtained in batch:
                    obtainer.release(obtained.pending)
                held -= batch_bytes
                batch, batch_bytes = [], 0
                continue
            if stop.is_set():
                return
            for done in wait(running, _GLANCE, return_when=FIRST_COMPLETED).done:
                item, size = running.pop(done)
                try:
                    result = done.result()
                except AdapterError as error:
                    batch.append(Obtained(item, error))
                    batch_bytes += size
                    continue
                if isinstance(result, Inspected):
                    admissible.append(result)
                else:
                    batch.append(Obtained(item, result))
                    batch_bytes += size
    finally:
        executor.shutdown(wait=not stop.is_set(), cancel_futures=True)
