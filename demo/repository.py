"""One repository of the demo's Hub: its files, its card and its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import ModelCardData

Build = Callable[[Path], None]
"""Fills a repository's folder."""


class Repository(Protocol):
    """What `fill` needs to know of a repository."""

    @property
    def repo_id(self) -> str:
        """ORG/NAME."""

    @property
    def about(self) -> str:
        """What the card says."""

    @property
    def build(self) -> Build:
        """Writes its files."""

    @property
    def card(self) -> Mapping[str, Any] | None:
        """Front matter besides `license`, or None for no card at all."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What `.hub.yaml` holds besides the dates."""


def fill(repo: Repository, day: datetime, folder: Path) -> None:
    """Write a repository dated `day` into an empty folder."""
    repo.build(folder)
    if repo.card is not None:
        front = ModelCardData(license="apache-2.0", **repo.card).to_yaml()
        (folder / "README.md").write_text(
            f"---\n{front}\n---\n\n# {repo.repo_id.partition('/')[2]}\n\n{repo.about}\n",
            encoding="utf-8",
        )
    (folder / ".hub.yaml").write_text(settings_file(day, repo.settings), encoding="utf-8")


def settings_file(day: datetime, others: Mapping[str, str]) -> str:
    """The content of a repository's `.hub.yaml`."""
    moment = day.strftime("%Y-%m-%dT%H:%M:%SZ")
    lines = {"createdAt": moment, "lastModified": moment, **others}
    return "".join(f"{key}: {value}\n" for key, value in lines.items())
