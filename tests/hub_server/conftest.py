"""A folder of repositories, built file by file, and a Hub that serves it."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import FaultyHub
from huggingface_hub import HfApi

BASE = "meta/base-1b"
SAMPLES = Path(__file__).parent / "samples"


class RepositoryFolder:
    """DIR, with a way to write repositories into it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def add(
        self,
        repo_id: str,
        files: dict[str, str | bytes] | None = None,
        *,
        card: dict[str, Any] | None = None,
        hub: dict[str, Any] | None = None,
    ) -> Path:
        """Write a repository: files, a card with this front matter, and its `.hub.yaml`."""
        contents: dict[str, str | bytes] = dict(files or {})
        if card is not None:
            contents["README.md"] = f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n# A card\n"
        if hub is not None:
            contents[".hub.yaml"] = yaml.safe_dump(hub)
        folder = self.place / repo_id
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    def add_adapter(
        self, repo_id: str, *, base: str = BASE, hub: dict[str, Any] | None = None
    ) -> Path:
        """Write an ordinary adapter of `base`, as PEFT and its card template leave it."""
        return self.add(
            repo_id,
            {
                "adapter_config.json": adapter_config(base),
                "adapter_model.safetensors": safetensors({"lora_A": [4, 8], "lora_B": [8, 4]}),
            },
            card={"base_model": base, "library_name": "peft", "license": "apache-2.0"},
            hub=hub,
        )

    def tokens(self, **tokens: Any) -> None:
        """Write DIR's own `.hub.yaml`."""
        (self.place / ".hub.yaml").write_text(yaml.safe_dump({"tokens": tokens}))


def adapter_config(base: str | None) -> str:
    return json.dumps(
        {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "base_model_name_or_path": base}
    )


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    """A valid file of float32 zeros, by the format's description."""
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@pytest.fixture
def folder(tmp_path: Path) -> RepositoryFolder:
    place = tmp_path / "hub"
    place.mkdir()
    return RepositoryFolder(place)


@pytest.fixture
def hub(folder: RepositoryFolder) -> Iterator[FaultyHub]:
    with FaultyHub(folder.place) as running:
        yield running


@pytest.fixture
def api(hub: FaultyHub) -> HfApi:
    """The unmodified client, anonymous."""
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def make_adapter_config() -> Callable[[str | None], str]:
    return adapter_config


@pytest.fixture
def make_safetensors() -> Callable[[dict[str, list[int]]], bytes]:
    return safetensors


@pytest.fixture
def sample() -> Callable[[str], Any]:
    """A recorded answer of the real Hub."""
    return lambda name: json.loads((SAMPLES / f"{name}.json").read_text())


@pytest.fixture
def touch() -> Callable[[Path, datetime], None]:
    """Set the time of the last change of every file and folder of a repository."""

    def set_times(place: Path, moment: datetime) -> None:
        for path in [place, *place.rglob("*")]:
            os.utime(path, (moment.timestamp(), moment.timestamp()))

    return set_times
