"""The rows that a run writes about an adapter and its base."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from hubdelta.indexer.adapters.adapter import Adapter, PeftAdapter
from hubdelta.indexer.adapters.compatibility import adapted_modules
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.engine import Answer, Baseline
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.recipe import Recipe
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.rows import BaseRow, FailureRow, VectorRow


@dataclass(frozen=True)
class RowMaker:
    """Makes rows from what is common to every vector of a run.

    Attributes:
        recipe: what makes the vectors comparable.
        probes: the probe set of the recipe.
        model_type: the base's architecture, as its config.json names it.
        run_id: goes into each row.
    """

    recipe: Recipe
    probes: ProbeSet
    model_type: str
    run_id: str

    def base_row(self, baseline: Baseline) -> BaseRow:
        """The base's own answer in one engine and precision."""
        recipe = self.recipe
        return BaseRow(
            base=recipe.base,
            base_revision=recipe.base_revision,
            recipe_id=recipe.id,
            probe_set=recipe.probe_set,
            probe_set_id=recipe.probe_set_id,
            prompts=list(self.probes.prompts),
            layer=recipe.layer,
            token=recipe.token,
            pooling=recipe.pooling,
            model_type=self.model_type,
            hidden_size=baseline.activations.shape[1],
            activations=list(baseline.activations),
            noise_floor=baseline.noise_floor,
            cosine=baseline.cosine,
            engine=baseline.engine,
            precision=baseline.precision,
            embedded_at=datetime.now(UTC),
            run_id=self.run_id,
        )

    def vector_row(self, pending: Pending, adapter: Adapter, answer: Answer) -> VectorRow:
        """An adapter's vector."""
        config = adapter.config if isinstance(adapter, PeftAdapter) else None
        modules = adapted_modules(adapter.tensors) if isinstance(adapter, PeftAdapter) else []
        key, recipe, delta = pending.key, self.recipe, answer.delta
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
            target_modules=modules,
            weight_bytes=adapter.weight_bytes,
            card=adapter.card,
            files=adapter.files,
            embedded_at=datetime.now(UTC),
            run_id=self.run_id,
        )

    def failure_row(self, pending: Pending, error: AdapterError) -> FailureRow:
        """An attempt that gave no vector, and when it is due again."""
        now = datetime.now(UTC)
        pause = error.reason.pause_after(pending.attempt)
        return FailureRow(
            base=self.recipe.base,
            repo_id=pending.key.repo_id,
            subfolder=pending.key.subfolder,
            revision=pending.key.revision,
            reason=error.reason,
            message=str(error),
            attempt=pending.attempt,
            failed_at=now,
            due_at=None if pause is None else now + pause,
            run_id=self.run_id,
        )
