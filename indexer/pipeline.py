"""Read, embed, write: the run that turns pending adapters into rows of an index."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event

import numpy as np

from hubdelta.indexer.batches import Obtained
from hubdelta.indexer.engine import Activations, Adapter, Engine, PeftAdapter
from hubdelta.indexer.fit import adapted_modules
from hubdelta.indexer.plan import Pending
from hubdelta.indexer.progress import Progress
from hubdelta.indexer.recipe import Recipe
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import FailureRow, VectorRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedding:
    """What is the same for every vector of a run.

    Attributes:
        engine: makes the activations.
        recipe: what makes the vectors comparable.
        base_activations: the base's own, [probes, hidden].
        noise_floor: L2 norm of a delta that arithmetic alone makes.
        run_id: goes into each row.
    """

    engine: Engine
    recipe: Recipe
    base_activations: Activations
    noise_floor: float
    run_id: str


@dataclass(frozen=True)
class _Embedded:
    adapter: Adapter
    activations: Activations


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
    """
    for batch in arriving:
        vectors: list[VectorRow] = []
        failures: list[FailureRow] = []
        for pending, answer in _answers(batch, embedding.engine, stop):
            if isinstance(answer, AdapterError):
                failures.append(_failure_row(pending, answer, embedding))
                progress.failed[answer.reason] += 1
                key = pending.key
                name = AdapterName(key.repo_id, key.subfolder, key.revision[:12])
                logger.warning("%s: %s: %s", name, answer.reason, answer)
            else:
                vectors.append(_vector_row(pending, answer, embedding))
                progress.embedded += 1
            on_progress(progress)
        index.write(vectors, base=embedding.recipe.base)
        index.write(failures, base=embedding.recipe.base)
        if stop.is_set():
            break


def _answers(
    batch: list[Obtained], engine: Engine, stop: Event
) -> Iterator[tuple[Pending, _Embedded | AdapterError]]:
    readable: list[tuple[Pending, Adapter]] = []
    for obtained in batch:
        if isinstance(obtained.result, AdapterError):
            yield obtained.pending, obtained.result
        else:
            readable.append((obtained.pending, obtained.result))
    activations = engine.activations([adapter for _, adapter in readable])
    for pending, adapter in readable:
        if stop.is_set():
            return
        answer = next(activations)
        yield (
            pending,
            answer if isinstance(answer, AdapterError) else _Embedded(adapter, answer),
        )


def _vector_row(pending: Pending, embedded: _Embedded, embedding: Embedding) -> VectorRow:
    adapter = embedded.adapter
    delta = (embedded.activations.astype(np.float64) - embedding.base_activations).mean(axis=0)
    norm = float(np.linalg.norm(delta))
    low_rank = adapter.config if isinstance(adapter, PeftAdapter) else None
    key, recipe = pending.key, embedding.recipe
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
        norm=norm,
        signal=norm / embedding.noise_floor,
        engine=embedding.engine.name,
        precision=embedding.engine.precision,
        adapter_type=low_rank.peft_type if low_rank else "FULL",
        rank=low_rank.rank if low_rank else None,
        alpha=low_rank.alpha if low_rank else None,
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
