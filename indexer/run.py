"""The embedding half of an index run: the base, the engine and the pipeline, put together."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

from hubdelta.crawler.hub import Hub
from hubdelta.indexer.base_model import BaseModel
from hubdelta.indexer.batches import batches
from hubdelta.indexer.engines import device_of, load_base, make_engine
from hubdelta.indexer.obtain import Obtainer
from hubdelta.indexer.pipeline import Embedding, embed_all
from hubdelta.indexer.plan import Plan
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.indexer.progress import Progress
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.index import Index


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
    use_threads(settings.threads)
    keep_freed_memory()
    base = load_base(base_folder, probes, settings)
    device = device_of(settings.device)

    def on_device() -> BaseModel:
        if base.model.device.type == device.partition(":")[0]:
            return base
        return BaseModel.load(base_folder, probes, device=device)

    engine = make_engine(base, on_device, settings)
    embedding = Embedding(engine, recipe, probes, base.model_type, run_id)
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
