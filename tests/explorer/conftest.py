"""An index for each test."""

from pathlib import Path

import pytest

from hubdelta.schemas.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """An index without rows."""
    return Index.create(tmp_path / "index")
