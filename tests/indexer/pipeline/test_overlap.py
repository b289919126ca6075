"""Stages of a run overlap: a pass never waits for a download, nor the other way around.

No clock decides here: an engine's pass ends only once the other stage has come so far, which it
never would if it waited for the pass.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Lock

import pytest
from faults import FaultyHub

from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Result
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.pipeline.arrivals import Arrivals, Budget
from hubdelta.indexer.pipeline.pipeline import Lane, embed_all
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.rows import RowMaker
from hubdelta.indexer.pipeline.writer import Writer
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.recipe import Recipe
from hubdelta.schemas.index import Index

_DEADLOCK_SECONDS = 30.0


class _Waiting(StackedEngine):
    """Passes that end once a condition holds, and what steps it has made.

    Attributes:
        stacked: adapters in the batches that are made.
        computed: adapters in the passes that have begun.
        passes: how many have begun.
        until: a pass, by its number from 0, ends once this holds.
    """

    stacked = 0
    computed = 0
    passes = 0
    until: Callable[[int], bool]

    def steps(self, adapters):
        for step in super().steps(adapters):
            self.stacked += len(step.reads)
            yield step

    def run(self, step) -> Iterator[Result]:
        number, self.passes = self.passes, self.passes + 1
        self.computed += len(step.reads)
        yield from super().run(step)
        pause = Event()
        for _ in range(int(_DEADLOCK_SECONDS / 0.02)):
            if self.until(number):
                return
            pause.wait(0.02)
        raise AssertionError(f"what pass {number} waited for did not come about during it")


@pytest.fixture
def run(tiny_base: Path, index: Index, pending: list[Pending], obtainer: Obtainer):
    """Embed the six adapters, two in a pass, with passes that wait until something holds."""

    def embed(until: Callable[[_Waiting, int], bool]) -> None:
        engine = _Waiting(BaseModel.load(tiny_base, ALPACA_5), max_batch=2)
        engine.until = lambda number: until(engine, number)
        progress = RunProgress()
        recipe = Recipe(pending[0].row.base, "0" * 40, ALPACA_5.name, ALPACA_5.id)
        row_maker = RowMaker(recipe, ALPACA_5, "llama", "test")
        arrivals = Arrivals(
            pending,
            obtainer,
            budget=Budget(10**9),
            workers=1,
            ahead=len(pending),
            stages=progress.stages,
            stop=Event(),
        )
        embed_all(
            [Lane(arrivals, lambda: engine, "compute", Lock(), 2)],
            row_maker,
            Writer(row_maker, index, rows=1, stages=progress.stages),
            stop=Event(),
            progress=progress,
            on_progress=lambda _: None,
        )
        assert progress.embedded == len(pending)

    return embed


def test_everything_is_downloaded_during_the_first_pass(
    run, names: list[str], local_hub: FaultyHub
) -> None:
    def fetched(engine: _Waiting, number: int) -> bool:
        weights = [r.path for r in local_hub.requests if "safetensors" in r.path]
        return all(any(f"/{name}/" in path for path in weights) for name in names)

    run(fetched)


def test_the_next_batch_is_stacked_during_a_pass(run, names: list[str]) -> None:
    def stacked(engine: _Waiting, number: int) -> bool:
        return engine.stacked > engine.computed or engine.computed == len(names)

    run(stacked)


def test_rows_of_a_pass_are_written_during_the_next(run, index: Index) -> None:
    def written(engine: _Waiting, number: int) -> bool:
        return number == 0 or any(index.root.rglob("vectors/**/*.parquet"))

    run(written)
