"""Running work so that Ctrl-C stops it, even if the work does not check for it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb

from hubdelta.schemas.errors import QueryError

_R = TypeVar("_R")

_AWAKE = 0.1
"""How long to wait at a time [seconds].

If polars is imported, its Ctrl-C handler (SA_RESTART) would resume a wait without a timeout.
"""

_AGAIN = 0.05
"""How long to wait before interrupting again [seconds]."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt if DuckDB caught Ctrl-C first and raised its own error."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


class StoppableThread:
    """A thread that works for another one, which handles Ctrl-C meanwhile.

    DuckDB checks for Ctrl-C only occasionally, and in some queries never. Signals do not reach the
    thread, so work in it is not cut off between two steps that belong together: it ends when told.
    """

    def __init__(self) -> None:
        """Do not start the thread yet."""
        self._pool = ThreadPoolExecutor(1, "hubdelta-query")
        self._left: tuple[Future[Any], Callable[[], None]] | None = None
        self._closed = False

    def run(self, work: Callable[[], _R], interrupt: Callable[[], None]) -> _R:
        """Run a function and return its result.

        Args:
            work: the function.
            interrupt: tells it to end; called repeatedly until it has.

        Raises:
            QueryError: the thread is closed.
            KeyboardInterrupt: Ctrl-C stopped it.
        """
        self.settle()
        if self._closed:
            raise QueryError("the index is closed")
        mine = self._pool.submit(work)
        self._left = mine, interrupt
        try:
            while not mine.done():
                wait([mine], timeout=_AWAKE)
        except KeyboardInterrupt:
            self.settle()
            raise
        self._left = None
        return mine.result()

    def settle(self) -> None:
        """Stop work that is still running after Ctrl-C."""
        if self._left is not None:
            work, interrupt = self._left
            while not work.done():
                interrupt()
                wait([work], timeout=_AGAIN)
            self._left = None

    def close(self) -> None:
        """Accept no more work."""
        self._closed = True
        self._pool.shutdown()
