"""Folders of tiny repositories, as `FaultyHub` serves them."""

import shutil
from pathlib import Path
from typing import Any

from families import make_adapter

BASE = "tiny/base"


def add_base(hub: Path, base: Path, repo_id: str = BASE) -> Path:
    """The base model as a repository."""
    folder = hub / repo_id
    shutil.copytree(base, folder)
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n")
    return folder


def add_adapter(hub: Path, base: Path, repo_id: str, **options: Any) -> Path:
    """An adapter with random weights and an ordinary card."""
    folder = make_adapter(hub / repo_id, base, base_name=BASE, **options)
    (folder / "README.md").write_text(
        f"---\nbase_model: {BASE}\nlibrary_name: peft\ndatasets:\n- some/data\n---\n"
    )
    return folder
