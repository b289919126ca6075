"""What several rooms' tests share: who runs with whom, an index, a tiny family, the demo's Hub."""

import signal
from pathlib import Path

import numpy as np
import optional
import pytest
from filelock import FileLock

from hubdelta.schemas.index import Index

BUILD = Path(__file__).parents[1] / ".build"

_LONGEST = (
    *("indexer/exactness/test_exactness.py", "hubdelta/test_examples.py", "hubdelta/test_cli.py"),
    *("hubdelta/test_engines_in_index.py", "hubdelta/test_bad_input.py"),
    "hubdelta/test_evaluate.py",
    *("indexer/test_which_weights.py", "indexer/streamed/test_streamed_quantized.py"),
    *("bench/test_query_bench.py", "hubdelta/test_screen.py", "hubdelta/test_lanes.py"),
)
"""Files that take longest. A file goes to one worker whole: begun last, it would end alone."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C be heard where a shell started the tests in the background, deaf to it.

    What skips files is a plugin of its own: of a folder whose conftest.py cannot be imported, this
    file is not asked.
    """
    config.pluginmanager.register(optional)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # there are environments without pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give out tests as `workers` groups them."""
    from workers import SharedFixtures

    return SharedFixtures(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest files begin first; the others keep their order."""
    places = {f"tests/{name}": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index without rows."""
    return Index.create(tmp_path / "index")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 32 dimensions."""
    optional.skip_without("torch")
    from families import make_base

    return make_base(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def demo_base() -> Path:
    """The demo's base model; kept between runs, since building it takes 20 seconds."""
    optional.skip_without("torch")
    from hubdelta.demo.base import build_base

    BUILD.mkdir(exist_ok=True)
    with FileLock(BUILD / "demo-base.lock"):
        return build_base(BUILD / "demo-base")


@pytest.fixture(scope="session")
def published(demo_base: Path) -> dict[str, np.ndarray]:
    """The Delta Activations of the demo's adapters by the published computation, by repository."""
    from straight_line import StraightLine

    from hubdelta.demo.awkward_files import COMMITTED
    from hubdelta.demo.pool import POOL

    line = StraightLine(demo_base)
    return {adapter.repo_id: line.delta(COMMITTED / adapter.repo_id) for adapter in POOL}


@pytest.fixture(scope="session")
def demo_hub(demo_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub of the demo, around a link to the base."""
    from demo_hub import make_hub

    return make_hub(tmp_path_factory.mktemp("hub"), demo_base)
