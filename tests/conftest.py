"""What several rooms' tests share: who runs with whom, an index, a tiny family, the demo's Hub."""

import signal
from pathlib import Path

import pytest
from filelock import FileLock

from hubdelta.schemas.index import Index

BUILD = Path(__file__).parents[1] / ".build"


def pytest_configure() -> None:
    """Let Ctrl-C be heard where a shell started the tests in the background, deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # there are environments without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give out tests as `workers` groups them."""
    from workers import SharedFixtures

    return SharedFixtures(config, log)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index without rows."""
    return Index.create(tmp_path / "index")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 32 dimensions."""
    from families import make_base

    return make_base(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """The demo's base model; kept between runs, since building it takes 20 seconds."""
    from hubdelta.demo.base import build_base

    BUILD.mkdir(exist_ok=True)
    with FileLock(BUILD / "demo-base.lock"):
        return build_base(BUILD / "demo-base")


@pytest.fixture(scope="session")
def demo_hub(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub of the demo, around a link to the base."""
    from demo_hub import make_hub

    return make_hub(tmp_path_factory.mktemp("hub"), demo_base)
