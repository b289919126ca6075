import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import FaultyHub

from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.keys import AdapterKey

ReadAdapter = Callable[[Path], PeftAdapter]


@pytest.fixture(scope="session")
def loaded(tiny_base: Path) -> ReferenceEngine:
    """The engine on the tiny base, of which each test has a copy."""
    return ReferenceEngine(BaseModel.load(tiny_base, ALPACA_5))


@pytest.fixture
def engine(loaded: ReferenceEngine) -> ReferenceEngine:
    return copy.deepcopy(loaded)


@pytest.fixture
def base(engine: ReferenceEngine) -> BaseModel:
    """The base of `engine`."""
    return engine._base


@pytest.fixture
def local_hub(folder: Path) -> Iterator[FaultyHub]:
    """A Hub that serves `folder`, which each file makes for itself."""
    with FaultyHub(folder) as running:
        yield running


@pytest.fixture
def hub(local_hub: FaultyHub) -> Iterator[Hub]:
    """A client of that Hub, whose pauses between attempts are short."""
    with Hub(HubSettings(local_hub.url, first_wait=0.01, longest_wait=0.02)) as hub:
        yield hub


@pytest.fixture(scope="session")
def read_adapter() -> ReadAdapter:
    def read(folder: Path) -> PeftAdapter:
        return PeftAdapter(
            AdapterKey(folder.as_posix(), "", "0" * 40),
            AdapterConfig.read(folder / "adapter_config.json"),
            read_tensors(sorted(folder.glob("adapter_model*"))),
            weight_bytes=0,
        )

    return read
