"""Repositories of a few bytes, written as the crawler's tests need them."""

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

BASE = "meta/base-1b"


class Repos:
    """The folder that is served, with a way to write repositories into it.

    Each repository written is an hour younger than the one before, so that the order of a
    listing is that of writing, the last first.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def add(
        self,
        repo_id: str,
        files: dict[str, bytes] | None = None,
        *,
        card: dict[str, Any] | None = None,
        **hub: Any,
    ) -> Path:
        """Write or overwrite a repository; `hub` is its `.hub.yaml`."""
        self.now += timedelta(hours=1)
        folder = self.place / repo_id
        contents = dict(files or {})
        if card is not None:
            contents["README.md"] = f"---\n{yaml.safe_dump(card)}---\n".encode()
        settings = {"createdAt": "2025-12-01T00:00:00.000Z", "lastModified": self.now} | hub
        contents[".hub.yaml"] = yaml.safe_dump(settings).encode()
        for path, content in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def adapter(
        self,
        repo_id: str,
        *,
        tag: str | None = BASE,
        declared: Any = BASE,
        folder: str = "",
        weights: bytes | None = None,
        **more: Any,
    ) -> Path:
        """Write an adapter: what its card says is its base, and what its config says."""
        card = {"library_name": "peft", "license": "apache-2.0"} | more.pop("card", {})
        if tag is not None:
            card["base_model"] = tag
        config = {"base_model_name_or_path": declared, "task_type": "CAUSAL_LM", "r": 8}
        files = {
            f"{folder}adapter_config.json": json.dumps(config).encode(),
            f"{folder}adapter_model.safetensors": tensors() if weights is None else weights,
        }
        return self.add(repo_id, files | more.pop("files", {}), card=card, **more)

    def model(self, repo_id: str, *, of: str | None = None, **more: Any) -> Path:
        """Write a whole model, perhaps descended from another (`relation` says how)."""
        card = {} if of is None else {"base_model": of}
        if relation := more.pop("relation", None):
            card["base_model_relation"] = relation
        files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": tensors()}
        return self.add(repo_id, more.pop("files", files), card=card, **more)


def tensors(rows: int = 4) -> bytes:
    """A safetensors file with one tensor, F32 [rows, 2]."""
    size = rows * 2 * 4
    header = {"lora_A": {"dtype": "F32", "shape": [rows, 2], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)
