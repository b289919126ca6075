"""What an engine is: a base, a batch of adapters and a probe set in, activations out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.schemas.errors import AdapterError, Reason

Activations = npt.NDArray[np.float32]
"""Hidden states [probes, hidden] in fp32, one of each probe: which one, `recipe` says."""


def unexpected(error: Exception) -> AdapterError:
    """The failure of an adapter that met an error nobody foresaw; it must not end a night's run."""
    text = " ".join(str(error).split())[:300]
    return AdapterError(Reason.ENGINE, f"{type(error).__name__}: {text}")


@dataclass(frozen=True)
class Baseline:
    """The base's own answer in one arithmetic: what an adapter's answer is compared with.

    Attributes:
        engine: which engine computes so.
        precision: fp32, tf32, fp16 or bf16.
        activations: the base's own, [probes, hidden].
        noise_floor: the largest L2 norm of a delta that this arithmetic alone is seen to make.
    """

    engine: str
    precision: str
    activations: Activations
    noise_floor: float


@dataclass(frozen=True)
class Answer:
    """What an engine says about one adapter.

    Attributes:
        activations: [probes, hidden].
        baseline: computed in the same arithmetic; subtracting it gives the adapter's effect.
    """

    activations: Activations
    baseline: Baseline

    @property
    def delta(self) -> npt.NDArray[np.float64]:
        """The Delta Activation [hidden]: mean over probes of adapter minus base."""
        difference = self.activations.astype(np.float64) - self.baseline.activations
        mean: npt.NDArray[np.float64] = difference.mean(axis=0)
        return mean

    @property
    def signal(self) -> float:
        """L2 norm of the delta over the noise floor."""
        return float(np.linalg.norm(self.delta)) / self.baseline.noise_floor


Result = tuple[int, Answer | AdapterError]
"""An adapter's place among those asked for, and its answer or the error that it alone met."""


class Engine(ABC):
    """Runs the probes through a base and through adapters of it.

    An engine is made for one base and one probe set, which it holds ready. It must answer the
    same for an adapter whatever shares its batch and whatever came before.
    """

    @abstractmethod
    def can_embed(self, adapter: Adapter) -> bool:
        """Whether this engine computes such an adapter exactly."""

    @abstractmethod
    def steps(self, adapters: Sequence[Adapter]) -> Iterator[Any]:
        """Make adapters ready, as many at a time as one pass takes.

        Runs in another thread than `run`: the next step is made while one is computed.

        Returns:
            Steps, which mean something to `run` of this engine alone.
        """

    @abstractmethod
    def run(self, step: Any) -> Iterator[Result]:
        """Compute one step: a result for each of its adapters, in any order.

        Raises:
            HubdeltaError: the engine itself no longer works; a lost GPU, for one.
        """

    def answers(self, adapters: Sequence[Adapter]) -> Iterator[Result]:
        """One result for each adapter, in any order, each as soon as it is known; one step in turn.

        Raises:
            HubdeltaError: the engine itself no longer works.
        """
        for step in self.steps(adapters):
            yield from self.run(step)
