"""Work that Ctrl-C stops, whether or not it listens."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from hubdelta.schemas.errors import QueryError

_R = TypeVar("_R")

_AWAKE = 0.1
"""How long to sleep at a time [seconds].

Where polars is imported, its handler of Ctrl-C (SA_RESTART) makes an endless wait go on.
"""

_AGAIN = 0.05
"""After how long to interrupt again what has not ended [seconds]."""


class StoppableThread:
    """A thread that does work for another one, which hears Ctrl-C meanwhile.

    DuckDB looks for Ctrl-C only now and then, and in some queries never. No signal interrupts what
    runs in the thread between two steps that belong together: it ends when it is told to.
    """

    def __init__(self, interrupt: Callable[[], None], resume: Callable[[], None]) -> None:
        """Start none yet.

        Args:
            interrupt: tells the work to end; it is called again and again until it has.
            resume: makes ready for other work.
        """
        self._interrupt, self._resume = interrupt, resume
        self._pool = ThreadPoolExecutor(1, "hubdelta-query")
        self._work: Future[Any] | None = None
        self._closed = False

    def run(self, work: Callable[[], _R]) -> _R:
        """What a function returns.

        Raises:
            QueryError: the thread is closed.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        self.settle()
        if self._closed:
            raise QueryError("the index is closed")
        self._resume()
        self._work = mine = self._pool.submit(work)
        try:
            while not mine.done():
                wait([mine], timeout=_AWAKE)
        except KeyboardInterrupt:
            self.settle()
            raise
        return mine.result()

    def settle(self) -> None:
        """Stop what still runs: that is, after Ctrl-C."""
        while self._work is not None and not self._work.done():
            self._interrupt()
            wait([self._work], timeout=_AGAIN)

    def close(self) -> None:
        """Take no more work."""
        self._closed = True
        self._pool.shutdown()
