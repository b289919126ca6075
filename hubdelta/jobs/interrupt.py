"""Ctrl-C during work that should end cleanly: the first asks it to stop, the second aborts it."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def stop_on_interrupt() -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set while the block runs.

    A second signal raises KeyboardInterrupt. Must be entered in the main thread.
    """
    stop = Event()

    def ask(signal_number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        logger.warning("stopping after finishing and writing the current computation")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
