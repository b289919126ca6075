"""Fixtures that several rooms' tests share: tiny model families."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("families")

from families import make_base  # noqa: E402


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 32 dimensions."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny-llama")
