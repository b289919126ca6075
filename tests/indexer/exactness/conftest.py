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


class Stackable(NamedTuple):
    """A base on which the stacked engines of a family run, and nothing else.

    Attributes:
        model: the base.
        before: the same, before any engine was made.
    """

    model: BaseModel
    before: Fingerprint


class MixedRun(NamedTuple):
    """One run over adapters of all kinds in random order.

    Attributes:
        made: the adapters, in the order in which they were given.
        results: of the engine.
    """

    made: list[Made]
    results: list[Result]


PoolOf = Callable[[Family], Pool]
StackableOf = Callable[[Family], Stackable]
EngineOf = Callable[..., StackedEngine]
MixedRunOf = Callable[[Family, int | None], MixedRun]


@pytest.fixture(scope="session")
def pool_of(tmp_path_factory: pytest.TempPathFactory) -> PoolOf:
    """The base and the adapters of a family, which all tests share."""
    return cache(lambda family: Pool(family, tmp_path_factory.mktemp(str(family))))


@pytest.fixture(scope="session")
def stackable_of(pool_of: PoolOf) -> StackableOf:
    """The base of a family's engines; PEFT's modules never are in it."""

    @cache
    def stackable(family: Family) -> Stackable:
        model = BaseModel.load(pool_of(family).base.folder, ALPACA_5)
        return Stackable(model, fingerprint(model.model, model.probes))

    return stackable


@pytest.fixture(scope="session")
def engine_of(stackable_of: StackableOf) -> EngineOf:
    """The stacked engine of a family that takes so many adapters at a time, one by default."""

    @cache
    def engine(family: Family, max_batch: int | None = 1) -> StackedEngine:
        made = StackedEngine(stackable_of(family).model, max_batch=max_batch)
        if max_batch != 1:  # PEFT was asked already what belongs to each adapter
            made._reader = engine(family)._reader
        return made

    return engine


@pytest.fixture(scope="session")
def mixed_run_of(pool_of: PoolOf, engine_of: EngineOf) -> MixedRunOf:
    """A run over all kinds of a family, with so many adapters in a pass at most."""

    @cache
    def mixed_run(family: Family, max_batch: int | None) -> MixedRun:
        made = pool_of(family).all_kinds()
        random.Random(f"{family} {max_batch}").shuffle(made)
        engine = engine_of(family, max_batch)
        return MixedRun(made, list(engine.answers([one.adapter for one in made])))

    return mixed_run
