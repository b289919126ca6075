"""The embedding part of an index run: base, engine and pipeline combined."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Event, Lock

from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.base_model import tokenized
from hubdelta.indexer.engines.engine import Engine
from hubdelta.indexer.engines.routing import device_of, load_engine
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.pipeline.arrivals import Arrivals, Budget
from hubdelta.indexer.pipeline.pipeline import Lane, embed_all
from hubdelta.indexer.pipeline.plan import Plan
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.rows import RowMaker
from hubdelta.indexer.pipeline.writer import Writer
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.index import Index
from hubdelta.schemas.kinds import Kind

_WINDOWS_AHEAD = 4
"""Windows in progress: one being computed, one being stacked, the others downloading."""

_FINETUNES_AHEAD = 3
"""Full finetunes in progress: one being streamed, the next ones being inspected."""


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
    progress: RunProgress,
    on_progress: Callable[[RunProgress], None],
) -> None:
    """Embed everything pending and write it to the index.

    Args:
        plan: what is pending.
        recipe: what makes the vectors comparable.
        probes: the probe set of the recipe.
        base_folder: a transformers folder of the base at the recipe's commit.
        index: where the rows go; the caller holds it for writing.
        hub: where the adapters come from.
        settings: how to work.
        downloads: folder for downloaded weights.
        run_id: goes into each row.
        stop: when set, work in progress is finished and written.
        progress: counts what is done.
        on_progress: called after each adapter.

    Raises:
        HubdeltaError: the base cannot be loaded, the index cannot be written.
    """
    use_threads(settings.threads)
    keep_freed_memory()
    structure = BaseStructure.read(base_folder)
    budget = Budget(settings.disk_budget_bytes)
    obtainer = Obtainer(
        hub,
        structure,
        downloads,
        settings.disk_budget_bytes,
        keep=settings.keep_downloads,
    )
    turn = Lock()
    arriving = partial(
        Arrivals, obtainer=obtainer, budget=budget, stages=progress.stages, stop=stop
    )

    def stream() -> Engine:
        ids = tokenized(base_folder, probes)
        device = device_of(settings.device)
        return StreamedEngine(
            base_folder, ids, readout=settings.readout, device=device, stop=stop, turn=turn
        )

    adapters = [pending for pending in plan.pending if pending.row.kind != Kind.FULL]
    finetunes = [pending for pending in plan.pending if pending.row.kind == Kind.FULL]
    lanes = []
    if adapters:
        ahead = _WINDOWS_AHEAD * settings.batch_size + settings.workers
        lanes.append(
            Lane(
                arriving(adapters, workers=settings.workers, ahead=ahead),
                partial(load_engine, base_folder, probes, settings, adapters=len(adapters)),
                stage="compute",
                turn=turn,
                window=settings.batch_size,
            )
        )
    if finetunes:
        lanes.append(
            Lane(
                arriving(finetunes, workers=1, ahead=_FINETUNES_AHEAD),
                stream,
                stage="stream",
                turn=nullcontext(),  # the engine takes its turn layer by layer
                window=1,
                patient=False,
            )
        )
    row_maker = RowMaker(recipe, probes, structure.model_type, run_id)
    writer = Writer(row_maker, index, rows=settings.batch_size, stages=progress.stages)
    embed_all(lanes, row_maker, writer, stop=stop, progress=progress, on_progress=on_progress)
