"""How near the deltas of a precision are to those of fp32, tried on edits made for that."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits, LowRank
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.indexer.engines.stacked.model import StackedModel

STRENGTHS: Final = (1.0, 0.1, 0.01, 0.001)
"""Of the edits: the strongest moves the last hidden state about as an adapter that is trained long,
by some tenths of its norm; the weakest as one of a few steps."""

_STRONGEST: Final = 0.15
"""‖ΔW‖ / ‖W‖ (Frobenius norms) of the strongest edit at every dense layer."""

_RANK: Final = 4

_QUICK: Final = 0.25
"""A pass of fewer seconds is run again, since what else the machine does may have delayed it."""


@dataclass(frozen=True)
class Trial:
    """How a precision does.

    Attributes:
        cosine: the least between a delta in it and in fp32, over all strengths.
        seconds: of one adapter of each strength, and of the base.
    """

    cosine: float
    seconds: float


class Trials:
    """Tries precisions on low-rank edits of every dense layer that adapters may edit.

    Args:
        model: the base.
    """

    def __init__(self, model: StackedModel) -> None:
        self._model = model
        self._edits = [self._made(strength) for strength in STRENGTHS]
        self._exact, self.exact_seconds = self._deltas("fp32")

    def of(self, precision: str) -> Trial:
        """Try a precision."""
        deltas, seconds = self._deltas(precision)
        return Trial(min(map(_cosine, deltas, self._exact)), seconds)

    def _made(self, strength: float) -> Edits:
        generator = torch.Generator().manual_seed(round(1 / strength))
        return {
            name: DenseEdit(low_rank=_low_rank(layer.weight, strength, generator))
            for name, layer in self._model.editable_layers()
        }

    def _deltas(self, precision: str) -> tuple[npt.NDArray[np.float64], float]:
        """Deltas [strengths, hidden], and the seconds that the passes took."""
        batch = [*self._edits, {}]  # with one that changes nothing, to compare with
        try:
            states, seconds = self._timed(batch, precision)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            states, seconds = None, 0.0
        if states is None:
            passes = [self._timed([edits], precision) for edits in batch]
            states = np.concatenate([alone for alone, _ in passes])
            seconds = sum(taken for _, taken in passes)
        *edited, own = states.astype(np.float64).mean(axis=1)
        return np.stack(edited) - own, seconds

    def _timed(self, batch: Sequence[Edits], precision: str) -> tuple[Activations, float]:
        """Hidden states [adapters, probes, hidden], and the seconds of the pass."""
        seconds = float("inf")
        for _ in range(2):
            prepared = self._model.prepare(batch, precision)
            started = time.perf_counter()
            states = self._model.run(prepared)
            seconds = min(seconds, time.perf_counter() - started)
            if seconds > _QUICK:
                break
        return states, seconds


def multiplies_faster(dtype: torch.dtype, times: float) -> bool:
    """Whether this CPU is seen to multiply matrices of a type at least `times` as fast as fp32.

    It takes milliseconds, where a pass through a large base may take minutes in a type that the
    CPU only emulates.
    """

    def seconds(of: torch.dtype) -> float:
        x, weight = torch.ones(256, 1024, dtype=of), torch.ones(1024, 1024, dtype=of)
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(x, weight)
            taken.append(time.perf_counter() - started)
        return min(taken)

    return times * seconds(dtype) <= seconds(torch.float32)


def _low_rank(weight: torch.Tensor, strength: float, generator: torch.Generator) -> LowRank:
    out_features, in_features = weight.shape
    down = torch.randn(_RANK, in_features, generator=generator)
    up = torch.randn(out_features, _RANK, generator=generator)
    norm = ((down @ down.T) * (up.T @ up)).sum().sqrt()  # ‖up·down‖
    own = torch.linalg.vector_norm(weight, dtype=torch.float32)
    return LowRank(down, up, float(_STRONGEST * strength * own.cpu() / norm))


def _cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 0 else 0.0
