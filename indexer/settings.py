"""How an index run works."""

import re
from dataclasses import dataclass

from hubdelta.schemas.errors import UsageError

GIGABYTE = 10**9

ENGINE_NAMES = ("stacked", "reference", "vllm")
"""What --engine takes; kept apart from the engines so that asking for help imports no torch."""

DEVICES = "auto, cpu, cuda, cuda:1 and so on, mps or xpu"
"""What --device takes, in words."""

PRECISIONS = ("auto", "fp32", "tf32", "fp16", "bf16")
"""What --precision takes."""

_DEVICE = re.compile(r"auto|cpu|(cuda|xpu)(:\d+)?|mps")


@dataclass(frozen=True)
class IndexSettings:
    """How an index run works, checked where it is made.

    Attributes:
        engine: name of the engine that is asked for.
        precision: of the matrix products; auto is the fastest that is precise enough.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        threads: of every library that computes; as many as there are cores by default.
        tensor_parallel: GPUs that share each layer; with vllm alone.
        batch_size: adapters that an engine is given together, and at most in one Parquet file.
        workers: downloads at once.
        disk_budget: bytes of weights that may be downloaded and not yet embedded.
        keep_downloads: leave the weights on disk.
    """

    engine: str = "stacked"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None
    tensor_parallel: int = 1
    batch_size: int = 64
    workers: int = 8
    disk_budget: int = 20 * GIGABYTE
    keep_downloads: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINE_NAMES:
            raise UsageError(f"no engine {self.engine!r}: one of {', '.join(ENGINE_NAMES)}")
        if self.precision not in PRECISIONS:
            raise UsageError(f"no precision {self.precision!r}: one of {', '.join(PRECISIONS)}")
        if self.engine == "reference" and self.precision not in {"auto", "fp32"}:
            raise UsageError("the reference engine computes only in fp32")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"no device {self.device!r}: give {DEVICES}")
        if self.threads is not None and self.threads < 1:
            raise UsageError("threads must be at least 1")
        if self.tensor_parallel < 1 or (self.tensor_parallel > 1 and self.engine != "vllm"):
            raise UsageError("only the engine vllm divides a base among several GPUs")
        if min(self.batch_size, self.workers, self.disk_budget) < 1:
            raise UsageError("batch size, workers and disk budget must be at least 1")
