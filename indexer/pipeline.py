"""Read, embed, write: the run that turns pending adapters into rows of an index."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import monotonic

import numpy as np

from hubdelta.indexer.batches import Obtained
from hubdelta.indexer.engine import Adapter, Answer, Baseline, Engine, PeftAdapter
from hubdelta.indexer.fit import adapted_modules
from hubdelta.indexer.plan import Pending
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.progress import Progress
from hubdelta.indexer.recipe import Recipe
from hubdelta.schemas.errors import AdapterError, HubdeltaError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import BaseRow, FailureRow, VectorRow

logger = logging.getLogger(__name__)

_MOST_LOST = 60.0  # seconds of work, when a run dies


@dataclass(frozen=True)
class Embedding:
    """What is the same for every vector of a run.

    Attributes:
        engine: makes the activations.
        recipe: what makes the vectors comparable.
        probes: the probe set of the recipe.
        model_type: the base's architecture, as its config.json names it.
        run_id: goes into each row.
    """

    engine: Engine
    recipe: Recipe
    probes: ProbeSet
    model_type: str
    run_id: str


def embed_all(
    arriving: Iterable[list[Obtained]],
    embedding: Embedding,
    index: Index,
    *,
    stop: Event,
    progress: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    """Embed batch after batch and write each as soon as it is done.

    A batch's vectors become one file and its failures another; a run that dies between them
    loses no more than that batch.

    Args:
        arriving: batches of adapters that were read, or that could not be.
        embedding: engine, recipe and base.
        index: where the rows go.
        stop: when set, the adapter in hand is finished, what is done is written, and it returns.
        progress: counts what is done; it is right also when the run ends in an error.
        on_progress: called after each adapter.

    Raises:
        IndexWriteError: the index cannot be written.
        HubdeltaError: the engine no longer works, or the base itself answers with NaN.
    """
    bases = _Bases(embedding, index)
    for batch in arriving:
        rows = _Rows(index, embedding.recipe.base)
        for pending, result in _results(batch, embedding.engine, stop):
            if isinstance(result, AdapterError):
                rows.failures.append(_failure_row(pending, result, embedding))
                progress.failed[result.reason] += 1
                key = pending.key
                name = AdapterName(key.repo_id, key.subfolder, key.revision[:12])
                logger.warning("%s: %s: %s", name, result.reason, result)
            else:
                bases.write(result.answer.baseline)
                rows.vectors.append(_vector_row(pending, result, embedding))
                progress.embedded += 1
            on_progress(progress)
            rows.write_if_due()
        rows.write()
        batch.clear()  # lets the weights go before the next batch is waited for
        if stop.is_set():
            break


class _Rows:
    """Rows on their way to the index: at the end of a batch, or of a minute if it takes longer."""

    def __init__(self, index: Index, base: str) -> None:
        self._index, self._base = index, base
        self._written = monotonic()
        self.vectors: list[VectorRow] = []
        self.failures: list[FailureRow] = []

    def write_if_due(self) -> None:
        """Write when the last time is a minute ago, so that a run that dies loses little."""
        if monotonic() - self._written >= _MOST_LOST:
            self.write()

    def write(self) -> None:
        """Write what there is, one file of each kind."""
        self._index.write(self.vectors, base=self._base)
        self._index.write(self.failures, base=self._base)
        self.vectors.clear()
        self.failures.clear()
        self._written = monotonic()


class _Bases:
    """Writes the base's row once for each engine and precision of a run."""

    def __init__(self, embedding: Embedding, index: Index) -> None:
        self._embedding, self._index = embedding, index
        self._written: set[tuple[str, str]] = set()

    def write(self, baseline: Baseline) -> None:
        """Write a baseline unless this run has written it.

        Raises:
            HubdeltaError: it is not finite.
        """
        recipe = self._embedding.recipe
        key = (baseline.engine, baseline.precision)
        if key in self._written:
            return
        if not np.isfinite(baseline.activations).all():
            raise HubdeltaError(f"the base {recipe.base} itself answers with NaN or infinity")
        row = BaseRow(
            base=recipe.base,
            base_revision=recipe.base_revision,
            recipe_id=recipe.id,
            probe_set=recipe.probe_set,
            probe_set_id=recipe.probe_set_id,
            prompts=list(self._embedding.probes.prompts),
            layer=recipe.layer,
            token=recipe.token,
            pooling=recipe.pooling,
            model_type=self._embedding.model_type,
            hidden_size=baseline.activations.shape[1],
            activations=list(baseline.activations),
            noise_floor=baseline.noise_floor,
            engine=baseline.engine,
            precision=baseline.precision,
            embedded_at=datetime.now(UTC),
            run_id=self._embedding.run_id,
        )
        self._index.write([row], base=recipe.base)
        self._written.add(key)


@dataclass(frozen=True)
class _Embedded:
    adapter: Adapter
    answer: Answer


def _results(
    batch: list[Obtained], engine: Engine, stop: Event
) -> Iterator[tuple[Pending, _Embedded | AdapterError]]:
    readable: list[tuple[Pending, Adapter]] = []
    for obtained in batch:
        if isinstance(obtained.result, AdapterError):
            yield obtained.pending, obtained.result
        else:
            readable.append((obtained.pending, obtained.result))
    for place, answer in engine.answers([adapter for _, adapter in readable]):
        pending, adapter = readable[place]
        yield pending, answer if isinstance(answer, AdapterError) else _Embedded(adapter, answer)
        if stop.is_set():
            return


def _vector_row(pending: Pending, embedded: _Embedded, embedding: Embedding) -> VectorRow:
    adapter, answer = embedded.adapter, embedded.answer
    config = adapter.config if isinstance(adapter, PeftAdapter) else None
    key, recipe, delta = pending.key, embedding.recipe, answer.delta
    return VectorRow(
        base=recipe.base,
        base_revision=recipe.base_revision,
        repo_id=key.repo_id,
        subfolder=key.subfolder,
        revision=key.revision,
        recipe_id=recipe.id,
        probe_set=recipe.probe_set,
        probe_set_id=recipe.probe_set_id,
        delta=delta.astype(np.float32),
        norm=float(np.linalg.norm(delta)),
        signal=answer.signal,
        engine=answer.baseline.engine,
        precision=answer.baseline.precision,
        adapter_type=config.peft_type if config else "FULL",
        rank=config.rank if config else None,
        alpha=config.alpha if config else None,
        target_modules=adapted_modules(adapter.tensors) if isinstance(adapter, PeftAdapter) else [],
        weight_bytes=adapter.weight_bytes,
        embedded_at=datetime.now(UTC),
        run_id=embedding.run_id,
    )


def _failure_row(pending: Pending, error: AdapterError, embedding: Embedding) -> FailureRow:
    now = datetime.now(UTC)
    pause = error.reason.pause_after(pending.attempt)
    return FailureRow(
        base=embedding.recipe.base,
        repo_id=pending.key.repo_id,
        subfolder=pending.key.subfolder,
        revision=pending.key.revision,
        reason=error.reason,
        message=str(error),
        attempt=pending.attempt,
        failed_at=now,
        due_at=None if pause is None else now + pause,
        run_id=embedding.run_id,
    )
