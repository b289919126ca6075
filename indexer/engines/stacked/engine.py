"""The stacked engine: every adapter of a batch in one pass, exactly."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from hubdelta.indexer.adapters.adapter import Adapter, PeftAdapter
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.edits.block_edits import BlockEdits
from hubdelta.indexer.engines.edits.edits import Edits
from hubdelta.indexer.engines.edits.reading import EditReader
from hubdelta.indexer.engines.edits.support import is_exact
from hubdelta.indexer.engines.engine import (
    Activations,
    Answer,
    Baseline,
    Engine,
    Result,
    attempt,
    not_finite,
    unexpected,
)
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.indexer.engines.stacked.baselines import Baselines
from hubdelta.indexer.engines.stacked.batching import Room, free_bytes
from hubdelta.indexer.engines.stacked.model import Prepared, StackedModel
from hubdelta.indexer.engines.stacked.precision import DTYPES
from hubdelta.indexer.prefetch import one_ahead
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

_WINDOW = 4
"""How many full batches of adapters are read before dividing them by rank and targets."""

_READ_SHARE = 0.1
"""Share of free memory that what is made of a window's adapters may take: two windows are held at
once, and stacks of one."""


@dataclass(frozen=True)
class _Read:
    """An adapter whose edits are known, and its place in the request."""

    place: int
    edits: Edits


@dataclass
class _Batch:
    """Adapters of one pass, and their stacks if these could be made."""

    reads: Sequence[_Read]
    _prepared: Prepared | None = None

    def take_prepared(self) -> Prepared | None:
        """The stacks, once, so that the caller holds the only reference."""
        prepared, self._prepared = self._prepared, None
        return prepared


class StackedEngine(Engine):
    """Runs the adapters of a batch together, each on separate rows.

    Args:
        base: the base; on the CPU in fp32, or in its stored dtype if `device` is another.
        device: where to run; the base's own device by default.
        precision: of the matrix products: fp32, tf32, fp16, bf16, or auto: the fastest whose deltas
            are seen to have a cosine of .9999 to those of fp32.
        max_batch: adapters in a pass at most; as many as memory allows by default.

    Attributes:
        model: the base, in which adapters are stacked.

    Raises:
        UnstackableError: the base's hidden states cannot be computed this way.
        UsageError: the precision does not exist here.
    """

    name = "stacked"

    def __init__(
        self,
        base: BaseModel,
        *,
        device: str | None = None,
        precision: str = "fp32",
        max_batch: int | None = None,
    ) -> None:
        self.model = StackedModel(base, device=device)
        self._reader = EditReader(base, self.model.tokens)
        self._baselines = Baselines(self.model, self.name)
        self._seen_in_batches: set[str] = set()
        self._room = Room(
            self.model.device,
            self.model.layer_bytes * self.model.rows_per_adapter,
            self.model.rows_per_adapter,
            self.model.dense_numbers,
            *([] if max_batch is None else [max_batch]),
        )
        self._precision = (
            self._baselines.fastest_precise()
            if precision == "auto"
            else self._baselines.checked(precision)
        )
        if self._precision != "fp32":
            self.model.hold(self._precision)
        self.baseline(self._precision)  # here, while the first adapters are on their way

    def can_embed(self, adapter: Adapter) -> bool:
        """Whether an adapter's method and all modules that it changes can be stacked.

        Modules that this base does not have are left to the reference engine: PEFT knows names from
        older versions of transformers. So are adapters whose matrices would fill the memory.
        """
        if not isinstance(adapter, PeftAdapter):
            return False
        if self._reader.plan(adapter) is not None:
            return True
        if not is_exact(adapter.config):
            return False
        if not self._reader.modules(adapter) <= self.model.stackable:
            return False
        made = self._reader.made_bytes(adapter)
        return made == 0 or made < self._memory_for_edits()

    def steps(self, adapters: Sequence[Adapter]) -> Iterator[Result | _Batch]:
        """Read adapters one window at a time, divide them into batches and stack these.

        Each adapter must be one that it can embed; one that cannot be read is a separate step.
        """
        dtype = DTYPES[self._precision]
        # While batches of one window are stacked, the next one is read.
        with closing(one_ahead(self._windows(adapters))) as read:
            for readable, failed in read:
                yield from failed
                for places in self._room.batches([one.edits for one in readable], dtype.itemsize):
                    batch = tuple(readable[place] for place in places)
                    yield _Batch(batch, self._stacked_if_it_can_be(batch))

    def run(self, step: Result | _Batch) -> Iterator[Result]:
        """Answer a batch.

        Raises:
            HubdeltaError: the base no longer answers as before.
        """
        if isinstance(step, _Batch):
            yield from self._embed(step, self._precision)
        else:
            yield step

    def baseline(self, precision: str) -> Baseline:
        """The base in one precision; measured on first use."""
        return self._baselines.of(precision)

    def _is_sound(self) -> bool:
        return self._baselines.answers_as_before()

    def _stacked_if_it_can_be(self, batch: Sequence[_Read]) -> Prepared | None:
        """A batch's stacks; if stacking fails, parts of it are stacked again when they run."""
        if len(batch) > self._room.most:
            return None
        try:
            return self._stacked(batch, self._precision)
        except Exception:  # it recurs when the parts are run, and is handled there
            logger.debug("a batch of %d", len(batch), exc_info=True)
            return None

    def _windows(self, adapters: Sequence[Adapter]) -> Iterator[tuple[list[_Read], list[Result]]]:
        """Adapters read together, and the errors of those that cannot be read.

        They are few at first, so that a GPU soon has work, and as many as memory holds.
        """
        readable: list[_Read] = []
        failed: list[Result] = []
        held, memory, most = 0, self._memory_for_edits(), self._room.most
        for place, adapter in enumerate(adapters):
            edits = attempt(adapter.key, partial(self._read, adapter))
            if isinstance(edits, AdapterError):
                failed.append((place, edits))
            else:
                readable.append(_Read(place, edits))
            if isinstance(adapter, PeftAdapter) and not isinstance(edits, BlockEdits):
                held += self._reader.made_bytes(adapter)
            if len(readable) + len(failed) >= most or held > memory:
                yield readable, failed
                readable, failed = [], []
                held, memory, most = 0, self._memory_for_edits(), _WINDOW * self._room.most
        yield readable, failed

    def _memory_for_edits(self) -> int:
        """Bytes that may be made of a window's adapters, where they are read and where they run."""
        there = {free_bytes(torch.device("cpu")), free_bytes(self.model.device)}
        return int(_READ_SHARE * min(there))

    def _read(self, adapter: Adapter) -> Edits:
        if not isinstance(adapter, PeftAdapter):
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, "the stacked engine takes adapters only")
        return self._reader.read(adapter)

    def _stacked(self, batch: Sequence[_Read], precision: str) -> Prepared:
        """A batch's stacks; a precision's first batch includes an adapter that changes nothing."""
        edits = [read.edits for read in batch]
        if precision not in self._seen_in_batches:
            edits.append({})
        return self.model.prepare(edits, precision)

    def _embed(self, batch: _Batch, precision: str) -> Iterator[Result]:
        """Answer a batch; what overflows is computed again in fp32."""
        again = []
        for read, states in self._run_all(batch, precision):
            if isinstance(states, AdapterError):
                yield read.place, states
            elif np.isfinite(states).all():
                yield read.place, Answer(states, self.baseline(precision))
            elif precision == "fp32":
                yield read.place, not_finite(precision)
            else:
                again.append(read)
        if again:
            # Stacks in fp32 are larger, so batches are divided again.
            for places in self._room.batches([read.edits for read in again]):
                wider = tuple(again[place] for place in places)
                yield from self._embed(_Batch(wider), "fp32")

    def _run_all(
        self, batch: _Batch, precision: str
    ) -> Iterator[tuple[_Read, Activations | AdapterError]]:
        """Run a batch; if it fails, parts of it, down to the one adapter that fails."""
        reads = batch.reads
        if len(reads) <= self._room.most:
            result = self._try(batch, precision)
            if not isinstance(result, Exception):
                yield from zip(reads, result, strict=True)
                return
            if len(reads) == 1:
                self._check(result)
                yield reads[0], unexpected(result)
                return
        batch.take_prepared()  # to make room: parts are stacked again
        part = min(self._room.most, math.ceil(len(reads) / 2))
        for start in range(0, len(reads), part):
            yield from self._run_all(_Batch(reads[start : start + part]), precision)

    def _try(self, batch: _Batch, precision: str) -> Activations | Exception:
        """Run a batch: [adapters, probes, hidden], or the error; then nothing of it is kept."""
        prepared = None
        adapters = len(batch.reads)
        try:
            prepared = batch.take_prepared() or self._stacked(batch.reads, precision)
            states = self.model.run(prepared)
        except Exception as error:
            logger.debug("a batch of %d", adapters, exc_info=True)
            if is_out_of_memory(error):
                tried = prepared.adapters if prepared else adapters
                self._room.halve(tried)
                logger.info("out of memory with %s in a pass", counted(tried, "adapter"))
            failure = error.with_traceback(None)
        else:
            if prepared.adapters > adapters and precision not in self._seen_in_batches:
                self._seen_in_batches.add(precision)
                self._baselines.raise_floor(precision, states[-1])
            return states[:adapters]
        if is_out_of_memory(failure) and precision not in self._seen_in_batches:
            self._seen_in_batches.add(precision)  # no room for one that changes nothing
            if adapters == 1:
                del prepared
                return self._try(batch, precision)
        return failure
