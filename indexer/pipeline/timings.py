"""How long each stage of a run was busy, and which one is the bottleneck."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

STAGES = ("load", "download", "read", "stack", "compute", "stream", "write")
"""load: the base and the engine. download: requests for adapters, their bodies, and checks of them
beforehand. read: decoding and checking tensors. stack: preparing a batch in memory and on the GPU.
compute: passes through the base. stream: full finetunes, layer by layer. write: Parquet."""


class Stages:
    """Counts the seconds in which each stage is busy, with any number of threads; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._began = time.monotonic()
        self._workers = dict.fromkeys(STAGES, 0)
        self._since = dict.fromkeys(STAGES, 0.0)
        self._busy = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Count the block as work of a stage."""
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
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def busy(self) -> dict[str, float]:
        """Seconds in which each stage was busy, for those that had work."""
        with self._lock:
            now = time.monotonic()
            busy = {
                stage: seconds + (now - self._since[stage] if self._workers[stage] else 0.0)
                for stage, seconds in self._busy.items()
            }
        return {stage: seconds for stage, seconds in busy.items() if seconds}

    @property
    def waited(self) -> dict[str, float]:
        """Seconds since the start in which each of these stages was idle."""
        total = self.seconds
        return {stage: max(0.0, total - busy) for stage, busy in self.busy.items()}

    @property
    def bottleneck(self) -> str | None:
        """The stage that was busy longest: speeding it up would shorten the run."""
        busy = self.busy
        return max(busy, key=busy.__getitem__) if busy else None
