"""One item of a generator ahead of its reader, so that the two work at the same time."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterator[T]) -> Generator[T]:
    """The same items; while one is in the reader's hands, the next is made in a thread.

    Raises:
        Exception: what the generator raises, when the reader comes to that item.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="hubdelta-stack") as executor:
        upcoming = executor.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = executor.submit(next, items, end)
            yield item  # type: ignore[misc]
            del item  # lets it go before the next one is waited for
