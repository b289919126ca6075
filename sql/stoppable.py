"""Work that Ctrl-C stops, whether or not it listens."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb

from hubdelta.schemas.errors import QueryError

_R = TypeVar("_R")

_AWAKE = 0.1
"""How long to sleep at a time [seconds].

Where polars is imported, its handler of Ctrl-C (SA_RESTART) makes an endless wait go on.
"""

_AGAIN = 0.05
"""After how long to interrupt again what has not ended [seconds]."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt where DuckDB has heard Ctrl-C first, and has other names for it."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        if str(error) == "Query interrupted":
            raise KeyboardInterrupt from error
        raise


class StoppableThread:
    """A thread that does work for another one, which hears Ctrl-C meanwhile.

    DuckDB looks for Ctrl-C only now and then, and in some queries never. No signal interrupts what
    runs in the thread between two steps that belong together: it ends when it is told to.
    """

    def __init__(self) -> None:
        """Start none yet."""
        self._pool = ThreadPoolExecutor(1, "hubdelta-query")
        self._left: tuple[Future[Any], Callable[[], None]] | None = None
        self._closed = False

    def run(self, work: Callable[[], _R], interrupt: Callable[[], None]) -> _R:
        """What a function returns.

        Args:
            work: the function.
            interrupt: tells it to end; it is called again and again until it has.

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
        """Stop what still runs: that is, after Ctrl-C."""
        if self._left is not None:
            work, interrupt = self._left
            while not work.done():
                interrupt()
                wait([work], timeout=_AGAIN)
            self._left = None

    def close(self) -> None:
        """Take no more work."""
        self._closed = True
        self._pool.shutdown()
