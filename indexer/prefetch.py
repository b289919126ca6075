"""Computing a generator's next item while its reader uses the current one."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterator[T]) -> Generator[T]:
    """The same items; while the reader uses one, the next is computed in a thread.

    Raises:
        Exception: as raised by the generator, when the reader gets to that item.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="hubdelta-stack") as executor:
        upcoming = executor.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = executor.submit(next, items, end)
            yield item  # type: ignore[misc]
            del item  # releases it before waiting for the next one
