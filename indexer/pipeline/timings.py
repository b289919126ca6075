"""How long each stage of a run had work in hand, and which one holds the others up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

STAGES = ("load", "download", "read", "stack", "compute", "stream", "write")
"""load: the base and the engine. download: requests and bodies of adapters, and what is checked of
them before. read: decoding and checking tensors. stack: what a batch needs in memory, on a GPU also
there. compute: passes through the base. stream: full finetunes, layer by layer. write: Parquet."""


class Stages:
    """Counts the seconds in which a stage has work, however many threads do it; safe in threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._began = time.monotonic()
        self._workers = dict.fromkeys(STAGES, 0)
        self._since = dict.fromkeys(STAGES, 0.0)
        self._busy = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """The block is work of a stage."""
        with self._lock:
            if not self._workers[stage]:
                self._since[stage] = time.monotonic()
            self._workers[stage] += 1
        try:
            yield
        finally:
            with self._lock:
                self._workers[stage] -= 1
                if not self._workers[stage]:
                    self._busy[stage] += time.monotonic() - self._since[stage]

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    @property
    def busy(self) -> dict[str, float]:
        """Seconds in which each stage had work in hand, of those that had any."""
        with self._lock:
            now = time.monotonic()
            busy = {
                stage: seconds + (now - self._since[stage] if self._workers[stage] else 0.0)
                for stage, seconds in self._busy.items()
            }
        return {stage: seconds for stage, seconds in busy.items() if seconds}

    @property
    def waited(self) -> dict[str, float]:
        """Seconds since the start in which each of these stages had none."""
        total = self.seconds
        return {stage: max(0.0, total - busy) for stage, busy in self.busy.items()}

    @property
    def bottleneck(self) -> str | None:
        """The stage that had work for longest: with a faster one the run would end sooner."""
        busy = self.busy
        return max(busy, key=busy.__getitem__) if busy else None
