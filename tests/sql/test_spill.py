"""Folders for what DuckDB spills to disk."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from hubdelta.sql.cache.spill import spill_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_removed_with_what_is_in_it(temporary: Path) -> None:
    with spill_folder() as folder:
        (folder / "spilled").write_bytes(b"rows")
    assert list(temporary.iterdir()) == []


def test_only_what_killed_processes_left_is_removed(temporary: Path) -> None:
    left = temporary / "hubdelta-spill-0123"
    left.mkdir()
    (left / "spilled").write_bytes(b"rows")
    just_made = temporary / "hubdelta-spill-4567"
    just_made.mkdir()
    with spill_folder() as in_use:
        for folder in (left, in_use):
            os.utime(folder, (0, 0))
        with spill_folder():
            assert in_use.is_dir()
            assert just_made.is_dir()
            assert not left.exists()
