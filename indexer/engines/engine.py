"""What an engine is: a base, a batch of adapters and a probe set in, activations out."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason

logger = logging.getLogger(__name__)

T = TypeVar("T")

Activations = npt.NDArray[np.float32]
"""Hidden states [probes, hidden] in fp32, one of each probe: which one, `recipe` says."""


def unexpected(error: Exception) -> AdapterError:
    """The failure of an adapter that met an error nobody foresaw; it must not end a night's run."""
    text = " ".join(str(error).split())[:300]
    return AdapterError(Reason.ENGINE, f"{type(error).__name__}: {text}")


def not_finite(precision: str) -> AdapterError:
    """The failure of an adapter whose hidden states hold NaN or infinity in a precision."""
    # In a narrower one it may be the type that overflows, which a wider engine can compute.
    reason = Reason.NOT_FINITE if precision == "fp32" else Reason.ENGINE
    return AdapterError(reason, f"its hidden states hold NaN or infinity in {precision}")


def no_longer_works(error: Exception) -> HubdeltaError:
    """What ends a run: the base no longer answers as before since an error."""
    return HubdeltaError(f"the engine no longer works, run again: {error}")


def distance(a: Activations, b: Activations) -> float:
    """L2 norm of the delta between two answers, [probes, hidden] each."""
    return float(np.linalg.norm((a.astype(np.float64) - b).mean(axis=0)))


def noise_floor(alone: Activations, others: Iterable[Activations]) -> float:
    """L2 norm of the largest delta that arithmetic alone makes of a base.

    Never less than one unit in the last place of fp32.

    Args:
        alone: the base's own answer, [probes, hidden].
        others: its answers where nothing but the order of sums, or their precision, is another.
    """
    smallest = float(np.finfo(np.float32).eps * np.linalg.norm(alone.mean(axis=0)))
    return max([smallest, *(distance(alone, other) for other in others)])


@dataclass(frozen=True)
class Baseline:
    """The base's own answer in one arithmetic: what an adapter's answer is compared with.

    Attributes:
        engine: which engine computes so.
        precision: fp32, tf32, fp16 or bf16.
        activations: the base's own, [probes, hidden].
        noise_floor: the largest L2 norm of a delta that this arithmetic alone is seen to make.
        cosine: the least between deltas in this precision and in fp32, of trial edits of several
            strengths; None where that was not measured.
    """

    engine: str
    precision: str
    activations: Activations
    noise_floor: float
    cosine: float | None = None


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

    What concerns one adapter alone becomes its result. Where the base no longer answers as before,
    later vectors would be wrong, and the run ends.
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

    def _is_sound(self) -> bool:
        """Whether the base still answers as before; any error says that it does not.

        An engine that only hands adapters to others leaves this to them.
        """
        return True

    def _check(self, error: Exception) -> None:
        """Make sure that the base still answers as before, and so that later vectors are right.

        Args:
            error: what an adapter met, which may be a sign that it does not.

        Raises:
            HubdeltaError: it does not; a lost GPU, for one.
        """
        try:
            sound = self._is_sound()
        except Exception:
            logger.debug("the base does not answer", exc_info=True)
            sound = False
        if not sound:
            raise no_longer_works(error) from error


def attempt(
    name: object, work: Callable[[], T], check: Callable[[Exception], object] | None = None
) -> T | AdapterError:
    """What work on one adapter gives, or the error that this adapter alone met.

    Args:
        name: what the log calls the adapter.
        work: reads or computes it.
        check: is shown an error that nobody foresaw; raises where it is not the adapter's own.

    Raises:
        HubdeltaError: the run cannot go on.
    """
    try:
        return work()
    except AdapterError as error:
        return error
    except HubdeltaError:
        raise
    except Exception as error:
        logger.debug("%s", name, exc_info=True)
        if check is not None:
            check(error)
        return unexpected(error)
