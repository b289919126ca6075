"""The base in each precision: its own answer, and the noise in it."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from hubdelta.indexer.engines.edits.edits import Edits
from hubdelta.indexer.engines.engine import Activations, Baseline, distance, noise_floor
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.indexer.engines.stacked.accuracy import Trial, Trials, multiplies_faster
from hubdelta.indexer.engines.stacked.model import StackedModel
from hubdelta.indexer.engines.stacked.precision import (
    CLOSE_ENOUGH,
    DTYPES,
    FASTEST_ON_CPU,
    FASTEST_ON_GPU,
    LARGE,
    WORTH_IT,
)
from hubdelta.schemas.errors import HubdeltaError, UsageError

logger = logging.getLogger(__name__)


class Baselines:
    """The baselines of one base, each measured on first use, and its distance from fp32.

    Args:
        model: the base, in which adapters are stacked.
        engine: the engine's name, for the baselines.
    """

    def __init__(self, model: StackedModel, engine: str) -> None:
        self._model, self._engine = model, engine
        self._known: dict[str, Baseline] = {}
        self._tried: dict[str, Trial] = {}
        self.of("fp32")  # the base is later checked against it

    def of(self, precision: str) -> Baseline:
        """The base in one precision, and its distance from itself in other batches and in fp32."""
        if precision not in self._known:
            alone = self._states([{}], precision)[0]
            others = list(self._in_company(precision))
            if precision != "fp32":
                others.append(self.of("fp32").activations)
            floor = noise_floor(alone, others)
            cosine = None if precision == "fp32" else self._trial(precision).cosine
            self._known[precision] = Baseline(self._engine, precision, alone, floor, cosine)
        return self._known[precision]

    def raise_floor(self, precision: str, nothing: Activations) -> None:
        """Include a batch's answer for an adapter that changes nothing in the noise floor.

        Args:
            precision: of the batch.
            nothing: the answer, [probes, hidden].
        """
        known = self.of(precision)
        floor = max(known.noise_floor, distance(known.activations, nothing))
        self._known[precision] = replace(known, noise_floor=floor)

    def fastest_precise(self) -> str:
        """The fastest precision in which deltas of every strength are as in fp32.

        On a GPU the order is known; on a CPU a narrow type has to be seen to be faster.
        """
        on_cpu = self._model.device.type == "cpu"
        if on_cpu and self._model.dense_numbers < LARGE:
            return "fp32"
        for precision in FASTEST_ON_CPU if on_cpu else FASTEST_ON_GPU:
            if on_cpu and not multiplies_faster(DTYPES[precision], WORTH_IT):
                continue
            if self._overflows(precision):
                continue
            trial = self._trial(precision)
            faster = not on_cpu or WORTH_IT * trial.seconds <= self._trials.exact_seconds
            logger.debug("%s: cosine to fp32 %.6f, faster: %s", precision, trial.cosine, faster)
            if trial.cosine >= CLOSE_ENOUGH and faster:
                return precision
        return "fp32"

    @cached_property
    def _trials(self) -> Trials:
        return Trials(self._model)

    def _trial(self, precision: str) -> Trial:
        if precision not in self._tried:
            self._tried[precision] = self._trials.of(precision)
        return self._tried[precision]

    def checked(self, precision: str) -> str:
        """Check a requested precision.

        Raises:
            UsageError: it does not exist, is not available here, or the base overflows in it.
        """
        if precision not in DTYPES:
            raise UsageError(f"no precision {precision!r}: one of auto, {', '.join(DTYPES)}")
        if precision == "tf32" and self._model.device.type != "cuda":
            raise UsageError("tf32 needs a GPU: use fp32 on a CPU")
        if self._overflows(precision):
            raise UsageError(f"the base overflows in {precision}: use auto or fp32")
        return precision

    def answers_as_before(self) -> bool:
        """Whether the base gives the same in fp32 as when it was first measured."""
        now = self._states([{}], "fp32")[0]
        # Up to rounding: a GPU with work in two streams may choose another order of sums.
        return np.allclose(now, self.of("fp32").activations, rtol=1e-4, atol=1e-4)

    def _in_company(self, precision: str) -> Activations:
        """The base at several places of a batch, beside edits of every kind that change nothing."""
        batch: list[Edits] = [self._model.idle_edits(), {}, {}]
        while batch:
            try:
                return self._states(batch, precision)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            batch.pop()
        raise HubdeltaError("there is not enough memory for one pass through the base")

    def _overflows(self, precision: str) -> bool:
        return self._model.overflows_in(DTYPES[precision]) or not bool(
            np.isfinite(self._states([{}], precision)).all()
        )

    def _states(self, batch: Sequence[Edits], precision: str) -> Activations:
        return self._model.run(self._model.prepare(batch, precision))
