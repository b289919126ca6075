"""The stacked engine: every adapter of a batch in one pass, exactly."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hubdelta.indexer.base_model import BaseModel
from hubdelta.indexer.engine import (
    Activations,
    Adapter,
    Answer,
    Baseline,
    PeftAdapter,
    Result,
    unexpected,
)
from hubdelta.indexer.stacked.ahead import one_ahead
from hubdelta.indexer.stacked.batching import Room, is_out_of_memory
from hubdelta.indexer.stacked.edits import Edits
from hubdelta.indexer.stacked.model import Prepared, StackedModel
from hubdelta.indexer.stacked.precision import (
    DTYPES,
    FASTEST_FIRST,
    GOOD_SIGNAL,
    WORTH_SEEING,
    products_in,
)
from hubdelta.indexer.stacked.reading import EditReader
from hubdelta.indexer.stacked.support import is_exact
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason, UsageError

logger = logging.getLogger(__name__)

_WINDOW = 4
"""Full batches of which adapters are read before they are divided by rank and targets."""


@dataclass(frozen=True)
class _Read:
    """An adapter whose edits are known, and its place among those asked for."""

    place: int
    edits: Edits


@dataclass
class _Batch:
    """Adapters of one pass, and their stacks where these could be made."""

    reads: Sequence[_Read]
    _prepared: Prepared | None = None

    def take_prepared(self) -> Prepared | None:
        """The stacks, once: whoever runs them is the only one to hold them."""
        prepared, self._prepared = self._prepared, None
        return prepared


class StackedEngine:
    """Runs the adapters of a batch together, each on its own rows.

    Args:
        base: the base; on the CPU in fp32, or in its stored type if `device` is another.
        device: where to run; the base's own device by default.
        precision: of the matrix products: fp32, tf32, fp16, bf16, or auto: fp32 on a CPU, on a
            GPU the fastest whose noise leaves a delta of a twentieth of the base's norm a good
            signal; what has no good signal is then computed again in fp32.
        max_batch: adapters in a pass at most; as many as memory allows by default.

    Attributes:
        model: the base, in which adapters are stacked.

    Raises:
        UnstackableError: the base's hidden states cannot be had in this way.
        UsageError: the precision does not exist here.
    """

    name = "stacked"

    def __init__(
        self,
        base: BaseModel,
        *,
        device: str | None = None,
        precision: str = "auto",
        max_batch: int | None = None,
    ) -> None:
        self.model = StackedModel(base, device=device)
        self._reader = EditReader(base, self.model.tokens)
        self._auto = precision == "auto"
        self._baselines: dict[str, Baseline] = {}
        self._seen_in_batches: set[str] = set()
        self._room = Room(
            self.model.device,
            self.model.layer_bytes * self.model.rows_per_adapter,
            self.model.rows_per_adapter,
            self.model.dense_numbers,
            *([] if max_batch is None else [max_batch]),
        )
        self.baseline("fp32")  # what the base is later checked against
        self._precision = self._fastest_precise() if self._auto else self._checked(precision)

    def can_embed(self, adapter: Adapter) -> bool:
        """Whether an adapter's method and all modules that it changes are among those stacked.

        Modules that this base does not have are the reference engine's to judge: PEFT knows names
        that older versions of transformers used.
        """
        if not isinstance(adapter, PeftAdapter) or not is_exact(adapter.config):
            return False
        return self._reader.modules(adapter) <= self.model.stackable

    def answers(self, adapters: Sequence[Adapter]) -> Iterator[Result]:
        """One result for each adapter, a batch at a time; each adapter must be one it can embed.

        Raises:
            HubdeltaError: the base no longer answers as before.
        """
        steps = self._prepared(adapters)
        if self.model.device.type == "cuda":
            steps = one_ahead(steps)
        for step in steps:
            if isinstance(step, _Batch):
                yield from self._embed(step, self._precision)
            else:
                yield step

    def baseline(self, precision: str) -> Baseline:
        """The base in one precision; measured when it is first asked for."""
        if precision not in self._baselines:
            self._baselines[precision] = self._measured(precision)
        return self._baselines[precision]

    def _prepared(self, adapters: Sequence[Adapter]) -> Iterator[Result | _Batch]:
        """Read adapters, a window of them at a time, divide them into batches and stack these."""
        dtype = DTYPES[self._precision]
        for window in self._windows(len(adapters)):
            readable: list[_Read] = []
            for place in window:
                try:
                    readable.append(_Read(place, self._read(adapters[place])))
                except AdapterError as error:
                    yield place, error
                except Exception as error:
                    logger.debug("%s", adapters[place].key, exc_info=True)
                    yield place, unexpected(error)
            for places in self._room.batches([read.edits for read in readable], dtype.itemsize):
                batch = tuple(readable[place] for place in places)
                try:
                    yield _Batch(batch, self._stacked(batch, self._precision))
                except Exception:  # it is stacked once more where halves can be made of it
                    logger.debug("a batch of %d", len(batch), exc_info=True)
                    yield _Batch(batch)

    def _windows(self, adapters: int) -> Iterator[range]:
        """Places of adapters that are read together; few at first, so that a GPU soon has work."""
        start, size = 0, self._room.most
        while start < adapters:
            yield range(start, min(start + size, adapters))
            start, size = start + size, _WINDOW * self._room.most

    def _read(self, adapter: Adapter) -> Edits:
        if not isinstance(adapter, PeftAdapter):
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, "the stacked engine takes adapters only")
        return self._reader.read(adapter)

    def _stacked(self, batch: Sequence[_Read], precision: str) -> Prepared:
        """A batch's stacks; the first batch of a precision gets an adapter that changes nothing."""
        edits = [read.edits for read in batch]
        if precision not in self._seen_in_batches:
            edits.append({})
        return self.model.prepare(edits, DTYPES[precision])

    def _embed(self, batch: _Batch, precision: str) -> Iterator[Result]:
        """Answer a batch; what overflows or drowns in noise is computed again in fp32."""
        again = []
        for read, states in self._run(batch, precision):
            if isinstance(states, AdapterError):
                yield read.place, states
            elif np.isfinite(states).all():
                answer = Answer(states, self.baseline(precision))
                if precision == "fp32" or not self._auto or answer.signal >= GOOD_SIGNAL:
                    yield read.place, answer
                else:
                    again.append(read)
            elif precision == "fp32":
                what = "its hidden states hold NaN or infinity in fp32"
                yield read.place, AdapterError(Reason.NOT_FINITE, what)
            else:
                again.append(read)
        if again:
            # Stacks in fp32 are larger, so they are divided anew.
            for places in self._room.batches([read.edits for read in again]):
                wider = tuple(again[place] for place in places)
                yield from self._embed(_Batch(wider), "fp32")

    def _run(
        self, batch: _Batch, precision: str
    ) -> Iterator[tuple[_Read, Activations | AdapterError]]:
        """Run a batch; if it breaks, parts of it, down to the one adapter that breaks it."""
        reads = batch.reads
        if len(reads) <= self._room.most:
            result = self._try(batch, precision)
            if not isinstance(result, Exception):
                yield from zip(reads, result, strict=True)
                return
            if len(reads) == 1:
                self._check_base(result)
                yield reads[0], unexpected(result)
                return
        part = min(self._room.most, math.ceil(len(reads) / 2))
        for start in range(0, len(reads), part):
            yield from self._run(_Batch(reads[start : start + part]), precision)

    def _try(self, batch: _Batch, precision: str) -> Activations | Exception:
        """Run a batch: [adapters, probes, hidden], or why it broke; nothing of it is kept then."""
        prepared = None
        adapters = len(batch.reads)
        try:
            prepared = batch.take_prepared() or self._stacked(batch.reads, precision)
            with products_in(precision):
                states = self.model.run(prepared)
        except Exception as error:
            logger.debug("a batch of %d", adapters, exc_info=True)
            if is_out_of_memory(error):
                tried = prepared.adapters if prepared else adapters
                self._room.halve(tried)
                logger.info("out of memory with %d adapters in a pass", tried)
                if precision not in self._seen_in_batches:  # room for one, but not for none beside
                    self._seen_in_batches.add(precision)
                    if adapters == 1:
                        return self._try(batch, precision)
            return error.with_traceback(None)
        if prepared.adapters > adapters:
            self._seen_in_batches.add(precision)
            self._raise_floor(precision, states[-1])
        return states[:adapters]

    def _states(self, batch: Sequence[Edits], precision: str) -> Activations:
        with products_in(precision):
            return self.model.run(self.model.prepare(batch, DTYPES[precision]))

    def _measured(self, precision: str) -> Baseline:
        """The base, and how far it is from itself in other batches and from itself in fp32."""
        alone = self._states([{}], precision)[0]
        floor = float(np.finfo(np.float32).eps * np.linalg.norm(alone.mean(axis=0)))
        others = list(self._in_company(precision))
        if precision != "fp32":
            others.append(self.baseline("fp32").activations)
        floor = max(floor, *(_distance(alone, other) for other in others))
        return Baseline(self.name, precision, alone, floor)

    def _in_company(self, precision: str) -> Activations:
        """The base at several places of a batch, beside one that changes nothing in every way."""
        batch = [self.model.idle_edits(), {}, {}]
        while batch:
            try:
                return self._states(batch, precision)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            batch.pop()
        raise HubdeltaError("there is not enough memory for one pass through the base")

    def _raise_floor(self, precision: str, nothing: Activations) -> None:
        """Take a real batch's answer to an adapter that changes nothing into the noise floor."""
        known = self.baseline(precision)
        floor = max(known.noise_floor, _distance(known.activations, nothing))
        self._baselines[precision] = Baseline(self.name, precision, known.activations, floor)

    def _fastest_precise(self) -> str:
        if self.model.device.type == "cpu":
            return "fp32"
        for precision in FASTEST_FIRST:
            if self._overflows(precision):
                continue
            baseline = self.baseline(precision)
            norm = float(np.linalg.norm(baseline.activations.mean(axis=0)))
            if GOOD_SIGNAL * baseline.noise_floor <= WORTH_SEEING * norm:
                return precision
        return "fp32"

    def _checked(self, precision: str) -> str:
        """A precision that is asked for.

        Raises:
            UsageError: it does not exist, or not here, or the base overflows in it.
        """
        if precision not in DTYPES:
            raise UsageError(f"no precision {precision!r}: one of auto, {', '.join(DTYPES)}")
        if precision == "tf32" and self.model.device.type != "cuda":
            raise UsageError("tf32 is a GPU's: use fp32 on a CPU")
        if self._overflows(precision):
            raise UsageError(f"the base overflows in {precision}: use auto or fp32")
        return precision

    def _overflows(self, precision: str) -> bool:
        return self.model.overflows_in(DTYPES[precision]) or not bool(
            np.isfinite(self._states([{}], precision)).all()
        )

    def _check_base(self, error: Exception) -> None:
        """Make sure that the base still answers as before, and so that later vectors are right.

        Raises:
            HubdeltaError: it does not; a lost GPU, for one.
        """
        known = self.baseline("fp32")
        try:
            now = self._states([{}], "fp32")[0]
            # To rounding: a GPU with work in two streams may choose another order of sums.
            sound = np.allclose(now, known.activations, rtol=1e-4, atol=1e-4)
        except RuntimeError:
            sound = False
        if not sound:
            raise HubdeltaError(f"the engine no longer works, run again: {error}") from error


def _distance(a: Activations, b: Activations) -> float:
    """L2 norm of the delta between two answers."""
    return float(np.linalg.norm((a.astype(np.float64) - b).mean(axis=0)))
