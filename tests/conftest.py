"""Fixtures that several rooms' tests share: an index, a tiny family, the demo's base and Hub."""

from pathlib import Path

import pytest
from demo_hub import make_hub
from families import make_base

from hubdelta.demo.base import build_base
from hubdelta.schemas.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index without rows."""
    return Index.create(tmp_path / "index")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 32 dimensions."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """The demo's base model; kept between runs, since building it takes 20 seconds."""
    return build_base(Path(__file__).parents[1] / ".build" / "demo-base")


@pytest.fixture(scope="session")
def demo_hub(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub of the demo, around a link to the base."""
    return make_hub(tmp_path_factory.mktemp("hub"), demo_base)
