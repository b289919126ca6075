"""How an index run works."""

from dataclasses import dataclass

from hubdelta.schemas.errors import UsageError

GIGABYTE = 10**9

ENGINE_NAMES = ("reference",)
"""What --engine takes; kept apart from the engines so that asking for help imports no torch."""


@dataclass(frozen=True)
class IndexSettings:
    """How an index run works, checked where it is made.

    Attributes:
        engine: name of the engine that is asked for.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        batch_size: adapters in a batch, and so at most in one Parquet file.
        workers: downloads at once.
        disk_budget: bytes of weights that may be downloaded and not yet embedded.
        keep_downloads: leave the weights on disk.
    """

    engine: str = "reference"
    device: str = "auto"
    batch_size: int = 16
    workers: int = 4
    disk_budget: int = 20 * GIGABYTE
    keep_downloads: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINE_NAMES:
            raise UsageError(f"no engine {self.engine!r}: one of {', '.join(ENGINE_NAMES)}")
        if min(self.batch_size, self.workers, self.disk_budget) < 1:
            raise UsageError("batch size, workers and disk budget must be at least 1")
