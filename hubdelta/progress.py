"""How far a run has come: bars on a terminal, a log line now and then without one."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from hubdelta.crawler.crawl import Progress as CrawlProgress
from hubdelta.index_run import Display
from hubdelta.indexer.progress import Progress

logger = logging.getLogger(__name__)

_LOG_PAUSE = 30.0  # seconds between two log lines


@contextmanager
def show_progress() -> Iterator[Display]:
    """A display that fits where standard error goes."""
    if not sys.stderr.isatty():
        yield _LogLines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


@dataclass
class _Bars:
    bars: Bars
    tasks: dict[str, TaskID] = field(default_factory=dict)

    def crawled(self, progress: CrawlProgress) -> None:
        task = self._task("crawling")
        self.bars.update(
            task, completed=progress.listed, description=f"crawling {progress.listing}"
        )

    def planned(self, pending: int) -> None:
        if "crawling" in self.tasks:
            self.bars.remove_task(self.tasks.pop("crawling"))
        self.bars.update(self._task("embedding"), total=pending)

    def embedded(self, progress: Progress) -> None:
        self.bars.update(
            self._task("embedding"),
            completed=progress.done,
            description=_describe(progress),
        )

    def _task(self, name: str) -> TaskID:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=None)
        return self.tasks[name]


@dataclass
class _LogLines:
    pending: int = 0
    last: float = field(default_factory=time.monotonic)

    def crawled(self, progress: CrawlProgress) -> None:
        if self._is_time():
            logger.info("crawling %s: %d listed", progress.listing, progress.listed)

    def planned(self, pending: int) -> None:
        self.pending = pending
        logger.info("%d to embed", pending)

    def embedded(self, progress: Progress) -> None:
        if self._is_time():
            logger.info("%d of %d done: %s", progress.done, self.pending, _describe(progress))

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self.last < _LOG_PAUSE:
            return False
        self.last = now
        return True


def _describe(progress: Progress) -> str:
    """Embedding 3.1 adapters/s, 12.4 MB/s, mostly compute, 2 failed."""
    parts = [
        f"embedding {progress.adapters_per_second:.1f} adapters/s",
        f"{progress.bytes_per_second / 1e6:.1f} MB/s",
    ]
    if bottleneck := progress.stages.bottleneck:
        parts.append(f"mostly {bottleneck}")
    if failed := progress.failed.total():
        parts.append(f"{failed} failed")
    return ", ".join(parts)
