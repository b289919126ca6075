"""Engines for small bases; without vLLM, the tests that ask for one are skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from families import family
from vllm_bench import Bench, Benches, small_base

from hubdelta.indexer.engines.vllm.pooler import check_installed
from hubdelta.schemas.errors import MissingExtraError


@pytest.fixture(scope="session")
def benches() -> Iterator[Benches]:
    try:
        check_installed()
    except MissingExtraError as error:
        pytest.skip(f"{error}; `make test-vllm` makes an environment that has it")
    benches = Benches()
    yield benches
    benches.close()


@pytest.fixture(scope="session")
def small_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("vllm") / "llama", family("llama"))


@pytest.fixture
def bench(benches: Benches, small_llama: Path) -> Bench:
    return benches.on(small_llama)
