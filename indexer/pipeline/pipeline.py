"""Download, read, stack, compute and write concurrently, so that no stage waits for its turn."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.engine import Answer, Baseline, Engine
from hubdelta.indexer.pipeline.arrivals import Arrivals, Obtained
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.rows import RowMaker
from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.indexer.pipeline.writer import Writer
from hubdelta.indexer.prefetch import one_ahead
from hubdelta.indexer.process import collect_around_what_is_loaded
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import VectorRow

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5  # seconds between progress checks


@dataclass(frozen=True)
class Lane:
    """Adapters on their way to one engine, which has its own thread.

    Attributes:
        arrivals: the adapters.
        make_engine: loads the base; called during the first downloads.
        stage: the stage that its passes count as: compute or stream.
        turn: held during a pass, so that one engine computes at a time.
        window: the most adapters given to the engine together.
        patient: whether a stopping run waits for this lane's work in progress.
    """

    arrivals: Arrivals
    make_engine: Callable[[], Engine]
    stage: str
    turn: AbstractContextManager[Any]
    window: int
    patient: bool = True


def embed_all(
    lanes: Sequence[Lane],
    row_maker: RowMaker,
    writer: Writer,
    *,
    stop: Event,
    progress: RunProgress,
    on_progress: Callable[[RunProgress], None],
) -> None:
    """Embed everything that arrives in all lanes, and write it.

    Args:
        lanes: their arrivals are closed at the end.
        row_maker: what the rows have in common.
        writer: writes them.
        stop: when set, the current computation is finished and written before returning; also set
            when a lane cannot go on.
        progress: counts what is done; correct even if the run ends in an error.
        on_progress: called after each adapter, and about twice a second.

    Raises:
        IndexWriteError: the index cannot be written.
        HubdeltaError: nothing can be fetched any more, the engine no longer works, or the base
            itself answers with NaN.
    """
    outcomes: SimpleQueue[_Outcome] = SimpleQueue()
    running = [_LaneThread(lane, row_maker, progress.stages, stop, outcomes) for lane in lanes]
    broken: BaseException | None = None
    for thread in running:
        thread.start()
    try:
        while any(thread.lane.patient or not stop.is_set() for thread in running):
            outcome = _next(outcomes, timeout=_POLL_SECONDS)
            if isinstance(outcome, _End):
                running.remove(outcome.thread)
                if outcome.error is not None:
                    broken = broken or outcome.error
                    stop.set()  # the other lanes as well
            elif outcome is not None:
                _keep(outcome, row_maker, writer, progress)
            writer.write_if_due()
            on_progress(progress)
        while (outcome := _next(outcomes)) is not None:
            if not isinstance(outcome, _End):
                _keep(outcome, row_maker, writer, progress)
    except BaseException:
        stop.set()
        raise
    finally:
        for lane in lanes:
            lane.arrivals.close()
        writer.write()
    if broken is not None:
        raise broken


def _next(outcomes: "SimpleQueue[_Outcome]", timeout: float = 0.0) -> "_Outcome | None":
    """The next result of a lane, or None if there is none within `timeout` seconds."""
    try:
        return outcomes.get(timeout=timeout)
    except Empty:
        return None


def _keep(
    outcome: "_Failed | _Embedded", row_maker: RowMaker, writer: Writer, progress: RunProgress
) -> None:
    """Count and write an adapter's result."""
    if isinstance(outcome, _Embedded):
        progress.embedded += 1
        progress.needed_bytes += outcome.needed_bytes
        writer.add_vector(outcome.row, outcome.baseline)
        return
    error, key = outcome.error, outcome.pending.key
    name = AdapterName(key.repo_id, key.subfolder, key.revision[:12])
    logger.warning("%s: %s: %s", name, error.reason, error)
    progress.failed[error.reason] += 1
    writer.add_failure(row_maker.failure_row(outcome.pending, error))


@dataclass(frozen=True)
class _Embedded:
    row: VectorRow
    baseline: Baseline
    needed_bytes: int


@dataclass(frozen=True)
class _Failed:
    pending: Pending
    error: AdapterError


@dataclass(frozen=True)
class _End:
    """A lane has finished, or cannot go on."""

    thread: "_LaneThread"
    error: BaseException | None


_Outcome = _Embedded | _Failed | _End


@dataclass
class _Window:
    """Adapters that were given to the engine together.

    Attributes:
        obtained: all of them.
        readable: those given to the engine.
        steps: made of them and not computed.
        is_divided: whether all steps are made.
        answered: places in `readable` that have a result.
    """

    obtained: Sequence[Obtained]
    readable: Sequence[tuple[Obtained, Adapter]]
    steps: int = 0
    is_divided: bool = False
    answered: set[int] = field(default_factory=set)


class _LaneThread(Thread):
    """Runs a lane's arrivals through its engine."""

    def __init__(
        self,
        lane: Lane,
        row_maker: RowMaker,
        stages: Stages,
        stop: Event,
        outcomes: "SimpleQueue[_Outcome]",
    ) -> None:
        super().__init__(name=f"hubdelta-{lane.stage}", daemon=True)
        self.lane = lane
        self._row_maker, self._stages, self._stop = row_maker, stages, stop
        self._outcomes = outcomes
        self._counting = Lock()

    def run(self) -> None:
        """Embed everything, and report how it ended."""
        error: BaseException | None = None
        try:
            self._embed_all()
        except BaseException as caught:  # noqa: BLE001 (raised again by who waits for the end)
            error = caught
        self._outcomes.put(_End(self, error))

    def _embed_all(self) -> None:
        # In turn: on creation, engines try out precisions, which are process-wide settings.
        with self.lane.turn, self._stages.at("load"):
            engine = self.lane.make_engine()
            collect_around_what_is_loaded()
        with closing(one_ahead(self._steps(engine))) as steps:
            try:
                for window, step in steps:
                    self._embed(engine, window, step)
                    if self._stop.is_set():
                        return
            finally:
                self.lane.arrivals.close()

    def _steps(self, engine: Engine) -> Iterator[tuple[_Window, Any]]:
        """Steps of the engine for what has arrived; runs during the passes."""
        for obtained in self.lane.arrivals.windows(self.lane.window):
            readable = []
            for one in obtained:
                if isinstance(one.result, AdapterError):
                    self._outcomes.put(_Failed(one.pending, one.result))
                else:
                    readable.append((one, one.result))
            window = _Window(obtained, readable)
            steps = engine.steps([adapter for _, adapter in readable])
            while True:
                with self._stages.at("stack"):
                    step = next(steps, None)
                with self._counting:
                    window.is_divided = step is None
                    window.steps += step is not None
                    if not window.steps:
                        self._release(window)
                if step is None:
                    break
                self.lane.arrivals.step_made()
                yield window, step

    def _embed(self, engine: Engine, window: _Window, step: Any) -> None:
        with self.lane.turn, self._stages.at(self.lane.stage):
            results = list(engine.run(step))
        self.lane.arrivals.step_computed()
        for place, result in results:
            window.answered.add(place)
            obtained, adapter = window.readable[place]
            if isinstance(result, Answer):
                row = self._row_maker.vector_row(obtained.pending, adapter, result)
                needed = obtained.needed_bytes
                if isinstance(adapter, FullFinetune):
                    needed += adapter.checkpoint.needed_bytes
                self._outcomes.put(_Embedded(row, result.baseline, needed))
            else:
                self._outcomes.put(_Failed(obtained.pending, result))
        with self._counting:
            window.steps -= 1
            if window.is_divided and not window.steps:
                self._release(window)

    def _release(self, window: _Window) -> None:
        """Release a window; adapters without a result stay pending."""
        self.lane.arrivals.release(window.obtained)
        if not self._stop.is_set():
            for place, (obtained, _) in enumerate(window.readable):
                if place not in window.answered:
                    logger.warning("%s: left for a later run", obtained.pending.key)
