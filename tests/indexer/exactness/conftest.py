import random
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
from families import Family
from fingerprint import Fingerprint, fingerprint
from made_by_peft import Made, Pool

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Result
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5


class MixedRun(NamedTuple):
    """One run over adapters of all kinds in random order.

    Attributes:
        made: the adapters, in the order in which they were given.
        results: of the engine.
        before: the base, before the run.
        after: the same, after it.
    """

    made: list[Made]
    results: list[Result]
    before: Fingerprint
    after: Fingerprint


PoolOf = Callable[[Family], Pool]
EngineOf = Callable[[Family], StackedEngine]
MixedRunOf = Callable[[Family, int | None], MixedRun]


@pytest.fixture(scope="session")
def pool_of(tmp_path_factory: pytest.TempPathFactory) -> PoolOf:
    """The base and the adapters of a family, which all tests share."""
    return cache(lambda family: Pool(family, tmp_path_factory.mktemp(str(family))))


@pytest.fixture(scope="session")
def engine_of(pool_of: PoolOf) -> EngineOf:
    """The stacked engine that takes one adapter of a family at a time; its base is its own."""
    return cache(
        lambda family: StackedEngine(
            BaseModel.load(pool_of(family).base.folder, ALPACA_5), max_batch=1
        )
    )


@pytest.fixture(scope="session")
def mixed_run_of(pool_of: PoolOf) -> MixedRunOf:
    """A run over all kinds of a family, with so many adapters in a pass at most."""

    @cache
    def mixed_run(family: Family, max_batch: int | None) -> MixedRun:
        pool = pool_of(family)
        made = pool.all_kinds()
        random.Random(f"{family} {max_batch}").shuffle(made)
        base = BaseModel.load(pool.base.folder, ALPACA_5)
        before = fingerprint(base.model, base.probes)
        engine = StackedEngine(base, max_batch=max_batch)
        results = list(engine.answers([one.adapter for one in made]))
        return MixedRun(made, results, before, fingerprint(base.model, base.probes))

    return mixed_run
