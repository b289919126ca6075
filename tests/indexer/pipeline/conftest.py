"""Six adapters of the tiny base to be served, and what obtains them."""

from pathlib import Path

import pytest
from hubs import BASE, add_adapter, add_base

from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.keys import AdapterName

_ADAPTERS = 6


@pytest.fixture(scope="session")
def names() -> list[str]:
    """The adapters' repositories, in the order of their names."""
    return [f"a/adapter-{number}" for number in range(_ADAPTERS)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, names: list[str]) -> Path:
    """What the Hub serves."""
    hub = tmp_path_factory.mktemp("hub")
    add_base(hub, tiny_base)
    for seed, name in enumerate(names):
        add_adapter(hub, tiny_base, name, seed=seed)
    return hub


@pytest.fixture
def pending(hub: Hub, names: list[str]) -> list[Pending]:
    """The adapters as a crawl finds them."""
    return [Pending(describe(hub, AdapterName(name), BASE)[0], 1) for name in names]


@pytest.fixture
def obtainer(hub: Hub, tiny_base: Path, tmp_path: Path) -> Obtainer:
    structure = BaseStructure.read(tiny_base)
    return Obtainer(hub, structure, tmp_path / "downloads", max_bytes=10**9)
