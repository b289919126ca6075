"""How an index run works: every setting, declared once for Python and for the command line."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Final, Literal

from hubdelta.indexer.readout import PAPERS, Pooling, Readout
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.setting import Setting, check

_GIGABYTE = 10**9

_DEVICES: Final = "auto, cpu, cuda, cuda:1 and so on, mps or xpu"

_DEVICE = re.compile(r"auto|cpu|(cuda|xpu)(:\d+)?|mps")

RECIPE: Final = "Recipe"
"""The heading of options that make another recipe."""

_COMPUTING: Final = "Computing"
_DOWNLOADING: Final = "Downloading"


@dataclass(frozen=True)
class IndexSettings:
    """How an index run works, checked where it is made; each field says what it is for.

    Raises:
        UsageError: a value is out of range, or does not go with another.
    """

    engine: Annotated[
        Literal["stacked", "reference", "vllm"],
        Setting(
            "What computes the activations of adapters; what it cannot do goes to reference.",
            panel=_COMPUTING,
        ),
    ] = "stacked"
    pooling: Annotated[
        Pooling,
        Setting(
            "Hidden state of a probe: that of its last token, or the mean over its tokens.",
            panel=RECIPE,
        ),
    ] = PAPERS.pooling
    layer: Annotated[
        int | None,
        Setting(
            "Read the hidden state after N layers: 0 for the embeddings, negative from the end, "
            "where -1 is the default.",
            unit="N",
            default="the last, after the final norm",
            panel=RECIPE,
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "fp16", "bf16"],
        Setting(
            "Precision of matrix products. auto: the fastest that is seen to be accurate here.",
            panel=_COMPUTING,
        ),
    ] = "auto"
    device: Annotated[
        str, Setting(f"What computes: {_DEVICES}.", unit="DEVICE", panel=_COMPUTING)
    ] = "auto"
    tensor_parallel: Annotated[
        int,
        Setting(
            "GPUs that share each layer of the base, with the engine vllm.",
            minimum=1,
            unit="N",
            panel=_COMPUTING,
        ),
    ] = 1
    threads: Annotated[
        int | None,
        Setting(
            "Threads of every library that computes.",
            minimum=1,
            unit="N",
            default="the number of cores",
            panel=_COMPUTING,
        ),
    ] = None
    batch_size: Annotated[
        int,
        Setting(
            "Adapters embedded and written together, at most; a pass takes what fits in memory.",
            minimum=1,
            unit="N",
            panel=_COMPUTING,
        ),
    ] = 64
    workers: Annotated[
        int, Setting("Downloads at once.", minimum=1, unit="N", panel=_DOWNLOADING)
    ] = 8
    disk_budget: Annotated[
        float,
        Setting(
            "Weights on disk and not yet embedded, at most; larger models are skipped.",
            unit="GB",
            panel=_DOWNLOADING,
        ),
    ] = 20.0
    keep_downloads: Annotated[
        bool, Setting("Keep the weights in INDEX/downloads.", panel=_DOWNLOADING)
    ] = False

    def __post_init__(self) -> None:
        check(self)
        if self.engine == "reference" and self.precision not in {"auto", "fp32"}:
            raise UsageError("the reference engine computes only in fp32")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"no device {self.device!r}: give {_DEVICES}")
        if self.engine == "vllm" and self.readout != PAPERS:
            raise UsageError("the engine vllm reads only the last token after the final norm")
        if self.tensor_parallel > 1 and self.engine != "vllm":
            raise UsageError("only the engine vllm divides a base among several GPUs")
        if not (isfinite(self.disk_budget) and self.disk_budget > 0):
            raise UsageError("disk budget must be above 0 GB, and finite")

    @property
    def readout(self) -> Readout:
        """Which hidden states of a probe engines return; its layer may count from the end."""
        return Readout(self.pooling, self.layer)

    @property
    def disk_budget_bytes(self) -> int:
        """Bytes of weights that may be on disk and not yet embedded."""
        return int(self.disk_budget * _GIGABYTE)
