"""How far a run has come: bars on a terminal, occasional log lines elsewhere."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from hubdelta.crawler.crawl_summary import CrawlProgress
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.jobs.index_run import Display

logger = logging.getLogger(__name__)

_LOG_PAUSE = 30.0  # seconds between two log lines
_LATELY = 10.0  # seconds over which rates on a terminal are averaged


@contextmanager
def show_progress() -> Iterator[Display]:
    """A display suited to standard error."""
    if not sys.stderr.isatty():
        yield _LogLines()
        return
    with Bars(*_columns(), console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


@contextmanager
def show_counts() -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows what is being done, how much of it is done, and how much there is."""
    if not sys.stderr.isatty():
        yield _CountLines()
        return
    with Bars(*_columns(), console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda doing, done, total: bars.update(
            task, description=doing, completed=done, total=total
        )


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),  # leaves the rest of an 80-column line for text
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
    )


@dataclass
class _CountLines:
    last: float = field(default_factory=time.monotonic)

    def __call__(self, doing: str, done: int, total: int) -> None:
        if time.monotonic() - self.last >= _LOG_PAUSE:
            logger.info("%s: %d of %d", doing, done, total)
            self.last = time.monotonic()


class _TimeLeft(TimeRemainingColumn):
    """The time left, or nothing if unknown: rich would show -:--:--."""

    def render(self, task: Task) -> Text:
        """The time left of a task."""
        return Text() if task.time_remaining is None else super().render(task)


class _Lately:
    """What a run did in the last seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, int, int, dict[str, float]]] = deque()

    def describe(self, progress: RunProgress) -> str:
        """As in: 3.1 adapters/s, 12.4 MB/s, mostly compute; rates appear once known."""
        now = (
            progress.stages.seconds,
            progress.embedded,
            progress.received(),
            progress.stages.busy,
        )
        self._past.append(now)
        while len(self._past) > 2 and now[0] - self._past[1][0] > _LATELY:
            self._past.popleft()
        since = self._past[0] if len(self._past) > 1 else (0.0, 0, 0, {})
        seconds = max(now[0] - since[0], 1e-9)
        busy = {stage: spent - since[3].get(stage, 0.0) for stage, spent in now[3].items()}
        parts = []
        if progress.embedded:
            parts.append(f"{(now[1] - since[1]) / seconds:.1f} adapters/s")
        if now[2]:
            parts.append(f"{(now[2] - since[2]) / seconds / 1e6:.1f} MB/s")
        if busy:
            parts.append(f"mostly {max(busy, key=busy.__getitem__)}")
        return ", ".join(parts) or "starting"


@dataclass
class _Bars:
    bars: Bars
    tasks: dict[str, TaskID] = field(default_factory=dict)
    lately: _Lately = field(default_factory=_Lately)

    def crawled(self, progress: CrawlProgress) -> None:
        task = self._task("crawling")
        self.bars.update(
            task, completed=progress.listed, description=f"crawling {progress.listing}"
        )

    def planned(self, pending: int) -> None:
        if "crawling" in self.tasks:
            self.bars.remove_task(self.tasks.pop("crawling"))
        self.bars.update(self._task("embedding"), total=pending)

    def embedded(self, progress: RunProgress) -> None:
        self.bars.update(
            self._task("embedding"),
            completed=progress.done,
            description=self.lately.describe(progress),
        )

    def _task(self, name: str) -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=None)
        return self.tasks[name]


@dataclass
class _LogLines:
    pending: int = 0
    last: float = field(default_factory=time.monotonic)
    lately: _Lately = field(default_factory=_Lately)

    def crawled(self, progress: CrawlProgress) -> None:
        if self._is_time():
            logger.info("crawling %s: %d listed", progress.listing, progress.listed)

    def planned(self, pending: int) -> None:
        self.pending = pending
        logger.info("%d to embed", pending)

    def embedded(self, progress: RunProgress) -> None:
        if self._is_time():
            logger.info(
                "%d of %d done, %d failed: %s",
                *(progress.done, self.pending, progress.failed.total()),
                self.lately.describe(progress),
            )

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self.last < _LOG_PAUSE:
            return False
        self.last = now
        return True
