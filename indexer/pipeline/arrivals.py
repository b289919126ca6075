"""Downloads ahead of the computation, within a budget of bytes, in the order of arrival."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import TypeVar

from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.indexer.adapters.loading import Inspected, Obtainer
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.engine import attempt
from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.schemas.errors import AdapterError, HubError, IndexWriteError, Reason

T = TypeVar("T")

_POLL_SECONDS = 0.5  # seconds between checks of whether to stop

_OUTAGE = 10
"""The least number of consecutive network failures before the Hub counts as down."""


@dataclass(frozen=True)
class Obtained:
    """One adapter that arrived: the adapter, or the error that kept it from being read.

    Attributes:
        pending: which one.
        result: the adapter, or the error.
        needed_bytes: fetched bytes that its vector depends on.
        held: bytes of the budget that it holds until it is released.
    """

    pending: Pending
    result: Adapter | AdapterError
    needed_bytes: int = 0
    held: int = 0


class Budget:
    """A limit on bytes held at once; a single holder may exceed it."""

    def __init__(self, size: int) -> None:
        self.changed = Condition()
        self._size, self._held = size, 0

    def take(self, size: int) -> bool:
        """Hold this many bytes, if they are free."""
        with self.changed:
            if self._held and self._held + size > self._size:
                return False
            self._held += size
            return True

    def give_back(self, size: int) -> None:
        """Release held bytes."""
        with self.changed:
            self._held -= size
            self.changed.notify_all()


class Arrivals:
    """Adapters being downloaded, several at once, and those that have arrived.

    The threads continue while the caller computes, as far as the budget and `ahead` allow. An idle
    engine gets whatever has arrived, even a single adapter; a busy one gets more once there is a
    full window. So neither side waits for the other, and passes are as large as possible.

    Args:
        pending: what to obtain.
        obtainer: inspects, fetches and reads.
        budget: bytes that the weights may take at once, on disk or in memory; may be shared.
        workers: concurrent downloads.
        ahead: the most adapters in progress: downloading, arrived or being computed.
        stages: where seconds are counted.
        stop: when set, no more are started.
    """

    def __init__(
        self,
        pending: Sequence[Pending],
        obtainer: Obtainer,
        *,
        budget: Budget,
        workers: int,
        ahead: int,
        stages: Stages,
        stop: Event,
    ) -> None:
        self._obtainer, self._budget, self._stages, self._stop = obtainer, budget, stages, stop
        self._changed = budget.changed
        self._waiting = deque(pending)
        self._parked: deque[Inspected] = deque()  # waiting for room in the budget
        self._there: deque[Obtained] = deque()
        self._working = 0  # threads working on an adapter
        self._in_hand = 0  # adapters started and not released
        self._steps = 0  # made and not computed
        self._ahead = ahead
        self._closed = False
        self._unanswered = 0  # consecutive adapters with network failures
        self._most_unanswered = max(_OUTAGE, 2 * workers)
        self._broken: BaseException | None = None
        for number in range(min(workers, len(pending))):
            Thread(target=self._work, name=f"hubdelta-download-{number}", daemon=True).start()

    def windows(self, most: int) -> Iterator[list[Obtained]]:
        """Adapters that have arrived, in windows, until all have been returned.

        Waits while none has arrived, or less than a window while the engine has a step to compute.

        Args:
            most: adapters in a window.

        Raises:
            HubdeltaError: nothing can be fetched any more.
        """
        while window := self._take(most):
            yield window

    def step_made(self) -> None:
        """The engine has one more step to compute."""
        with self._changed:
            self._steps += 1

    def step_computed(self) -> None:
        """It has one less."""
        with self._changed:
            self._steps -= 1
            self._changed.notify_all()

    def release(self, window: Sequence[Obtained]) -> None:
        """Release finished adapters: their files, and their share of the budget."""
        for obtained in window:
            self._obtainer.release(obtained.pending)
        with self._changed:
            self._in_hand -= len(window)
            self._budget.give_back(sum(obtained.held for obtained in window))

    def close(self) -> None:
        """Start and return no more adapters; pending network requests are abandoned."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def _ended(self) -> bool:
        return self._closed or self._stop.is_set()

    def _take(self, most: int) -> list[Obtained]:
        with self._changed:
            while not self._ended:
                if self._broken is not None and not self._there:
                    raise self._broken
                if len(self._there) >= most or (self._there and not self._steps):
                    break
                if not (self._working or self._waiting or self._parked):
                    break
                self._changed.wait(_POLL_SECONDS)
            if self._ended:
                return []
            return [self._there.popleft() for _ in range(min(most, len(self._there)))]

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                outcome = job()
            except BaseException as error:  # noqa: BLE001 (raised again in `windows`)
                with self._changed:
                    self._broken = error
                    self._working -= 1
                    self._waiting.clear()
                    self._parked.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._working -= 1
                if isinstance(outcome, Inspected):
                    self._parked.append(outcome)
                else:
                    self._there.append(outcome)
                    self._watch(outcome)
                self._changed.notify_all()

    def _watch(self, obtained: Obtained) -> None:
        """End the run when the Hub is down, instead of failing thousands of adapters."""
        error = obtained.result
        lost = isinstance(error, AdapterError) and error.reason is Reason.NETWORK
        self._unanswered = self._unanswered + 1 if lost else 0
        if self._unanswered >= self._most_unanswered:
            self._broken = HubError(
                f"{self._unanswered} downloads in a row failed, the last with: {error}"
            )
            self._waiting.clear()
            self._parked.clear()

    def _next(self) -> Callable[[], Obtained | Inspected] | None:
        """A thread's next job; waits while there is none; None at the end."""
        with self._changed:
            while not self._ended and (self._waiting or self._parked or self._working):
                job = self._job()
                if job is not None:
                    self._working += 1
                    return job
                self._changed.wait(_POLL_SECONDS)
        return None

    def _job(self) -> Callable[[], Obtained | Inspected] | None:
        if self._parked and self._budget.take(self._parked[0].memory_bytes):
            inspected = self._parked.popleft()
            return lambda: self._obtain(inspected)
        if self._waiting and self._in_hand < self._ahead:
            pending = self._waiting.popleft()
            self._in_hand += 1
            return lambda: self._inspect(pending)
        return None

    def _inspect(self, pending: Pending) -> Obtained | Inspected:
        """Inspect an adapter and, if the budget allows, obtain it."""
        with self._stages.at("download"):
            inspected = _attempt(pending, lambda: self._obtainer.inspect(pending))
        if isinstance(inspected, AdapterError):
            return Obtained(pending, inspected)
        # Those waiting for room are not overtaken, or the largest would wait forever.
        if self._parked or not self._budget.take(inspected.memory_bytes):
            return inspected
        return self._obtain(inspected)

    def _obtain(self, inspected: Inspected) -> Obtained:
        """Obtain an adapter whose share of the budget is held."""
        pending, held = inspected.pending, inspected.memory_bytes
        result: Adapter | AdapterError | None
        with self._stages.at("download"):
            result = _attempt(pending, lambda: self._obtainer.fetch(inspected))
        if result is None:
            with self._stages.at("read"):
                result = _attempt(pending, lambda: self._obtainer.read(inspected))
        if isinstance(result, AdapterError):
            self._budget.give_back(held)
            return Obtained(pending, result)
        return Obtained(pending, result, inspected.needed_bytes, held)


def _attempt(pending: Pending, step: Callable[[], T]) -> T | AdapterError:
    """The result of a step, or the error that concerns this adapter alone."""

    def on_this_machine() -> T:
        try:
            return step()
        except OSError as error:
            # Errors in a file's content were handled on reading it; the rest are this machine's.
            raise IndexWriteError(f"cannot work on the downloads: {error}") from error

    return attempt(pending.key, on_this_machine)
