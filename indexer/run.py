"""The embedding half of an index run: the base, the engine and the pipeline, put together."""

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import numpy as np
import torch

from hubdelta.crawler.hub import Hub
from hubdelta.indexer.base_model import BaseModel
from hubdelta.indexer.batches import batches
from hubdelta.indexer.engine import Engine
from hubdelta.indexer.obtain import Obtainer
from hubdelta.indexer.pipeline import Embedding, embed_all
from hubdelta.indexer.plan import Plan
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.progress import Progress
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.reference import ReferenceEngine
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import HubdeltaError, UsageError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import BaseRow

ENGINES: Mapping[str, Callable[[BaseModel], Engine]] = {"reference": ReferenceEngine}


def embed_plan(
    plan: Plan,
    *,
    recipe: Recipe,
    probes: ProbeSet,
    base_folder: Path,
    index: Index,
    hub: Hub,
    settings: IndexSettings,
    downloads: Path,
    run_id: str,
    stop: Event,
    progress: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    """Embed all that is pending and write it to the index.

    Args:
        plan: what is pending.
        recipe: what makes the vectors comparable.
        probes: the probe set of the recipe.
        base_folder: a transformers folder of the base at the recipe's commit.
        index: where the rows go; the caller holds it for writing.
        hub: where the adapters come from.
        settings: how to work.
        downloads: folder for weights on their way.
        run_id: goes into each row.
        stop: when set, what is in hand is finished and written.
        progress: counts what is done.
        on_progress: called after each adapter.

    Raises:
        HubdeltaError: the base cannot be loaded, the index cannot be written.
    """
    base = BaseModel.load(base_folder, probes, device=_device(settings.device))
    engine = ENGINES[settings.engine](base)
    if not np.isfinite(engine.base_activations()).all():
        raise HubdeltaError(f"the base {recipe.base} itself answers with NaN or infinity")
    embedding = Embedding(engine, recipe, engine.base_activations(), engine.noise_floor(), run_id)
    _write_base(index, base, embedding, probes)
    obtainer = Obtainer(hub, base, downloads, settings.disk_budget, keep=settings.keep_downloads)
    arriving = batches(
        plan.pending,
        obtainer,
        batch_size=settings.batch_size,
        workers=settings.workers,
        budget=settings.disk_budget,
        stop=stop,
    )
    with closing(arriving):
        embed_all(arriving, embedding, index, stop=stop, progress=progress, on_progress=on_progress)


def _write_base(index: Index, base: BaseModel, embedding: Embedding, probes: ProbeSet) -> None:
    """Write the base's row, once for each (recipe, precision)."""
    recipe, engine = embedding.recipe, embedding.engine
    known = index.read(BaseRow, base=recipe.base, columns=["recipe_id", "precision"]).to_pylist()
    if {"recipe_id": recipe.id, "precision": engine.precision} in known:
        return
    activations = embedding.base_activations
    row = BaseRow(
        base=recipe.base,
        base_revision=recipe.base_revision,
        recipe_id=recipe.id,
        probe_set=recipe.probe_set,
        probe_set_id=recipe.probe_set_id,
        prompts=list(probes.prompts),
        layer=recipe.layer,
        token=recipe.token,
        pooling=recipe.pooling,
        model_type=base.model_type,
        hidden_size=activations.shape[1],
        activations=list(activations),
        noise_floor=embedding.noise_floor,
        engine=engine.name,
        precision=engine.precision,
        embedded_at=datetime.now(UTC),
        run_id=embedding.run_id,
    )
    index.write([row], base=recipe.base)


def _device(asked: str) -> str:
    """The device to run on.

    Raises:
        UsageError: there is no such device here.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"no device {asked!r} here: {str(error).partition(chr(10))[0]}") from error
    return asked
