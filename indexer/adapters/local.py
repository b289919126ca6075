"""Catalog rows of adapters in local folders."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import Any

from hubdelta.crawler.adapter_files import (
    INDEX_SUFFIX,
    MODEL_CONFIG,
    adapters_in,
    models_in,
    unreadable_weights,
)
from hubdelta.crawler.catalog import NAMED
from hubdelta.crawler.weight_index import LONGEST_INDEX, parse_index
from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE, LONGEST_CONFIG, AdapterConfig
from hubdelta.indexer.adapters.local_files import file_size, open_file, read_header
from hubdelta.indexer.adapters.source import Folder, too_large
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.kinds import Kind, Relation
from hubdelta.schemas.rows import CatalogRow

_BLOCK = 1 << 20  # bytes


def describe_folder(
    name: AdapterName, base: str, *, run_id: str, max_bytes: int | None = None
) -> CatalogRow:
    """The catalog row of an adapter or a whole model in a local folder.

    It assigns the adapter to the base that the caller names. The revision is the SHA-1 of its
    files, so a folder with changed contents gets a new key. Hashing reads them in full, so files
    that their sizes and headers already rule out are rejected first.

    Args:
        name: a local adapter.
        base: the base it is to be embedded under.
        run_id: goes into the row.
        max_bytes: an adapter with larger weights is rejected; unlimited by default.

    Raises:
        AdapterError: not_found (the folder holds no adapter and no model), corrupt, too_large.
    """
    folder = Path(name.repo_id)
    names = _names(folder)
    adapter, model = adapters_in(names).get(""), models_in(names).get("")
    if adapter is None and model is None and MODEL_CONFIG not in names:
        raise AdapterError(
            Reason.NOT_FOUND, f"{folder} holds neither {CONFIG_FILE} nor {MODEL_CONFIG}"
        )
    kind = Kind.FULL if adapter is None else Kind.ADAPTER
    config_file = MODEL_CONFIG if adapter is None else CONFIG_FILE
    config = _config(folder) if adapter is not None else {}
    weights = adapter or model or unreadable_weights(names)
    shards = _shards(folder, weights)
    _check_headers(folder, [*weights, *shards])
    if kind == Kind.ADAPTER and max_bytes is not None:
        _check_size(folder, shards or weights, max_bytes)
    files = [config_file, *weights, *shards]
    declared, task_type = (
        value if isinstance(value := config.get(key), str) and value else None
        for key in ("base_model_name_or_path", "task_type")
    )
    modified, revision = _state(folder, files)
    return CatalogRow(
        base=base,
        repo_id=name.repo_id,
        subfolder="",
        revision=revision,
        kind=kind,
        relation=Relation.ADAPTER if kind == Kind.ADAPTER else Relation.FINETUNE,
        canonical_base=base,
        evidence=NAMED,
        declared_base=declared,
        via=None,
        weights_files=weights,
        author=None,
        created_at=None,
        last_modified=datetime.fromtimestamp(modified, UTC),
        downloads=None,
        likes=None,
        gated=None,
        private=False,
        disabled=False,
        library_name=None,
        pipeline_tag=None,
        task_type=task_type,
        license=None,
        datasets=[],
        languages=[],
        tags=[],
        vanished_at=None,
        crawled_at=datetime.now(UTC),
        run_id=run_id,
    )


def folder_revision(folder: Path) -> str:
    """The SHA-1 of a local model's configuration and weights, 40 hex digits.

    Raises:
        AdapterError: a file is not a regular file, or cannot be read.
    """
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    return _state(folder, [MODEL_CONFIG, *(path.name for path in weights)])[1]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise AdapterError(Reason.NOT_FOUND, f"{folder}: {error.strerror}") from error


def _config(folder: Path) -> Mapping[str, Any]:
    return AdapterConfig.parse(Folder(folder).text(CONFIG_FILE, limit=LONGEST_CONFIG)).values


def _shards(folder: Path, weights: list[str]) -> list[str]:
    """Files that an index file names and that exist; missing ones are noticed when read."""
    if not weights or not weights[0].endswith(INDEX_SUFFIX):
        return []
    index = parse_index(weights[0], Folder(folder).text(weights[0], limit=LONGEST_INDEX))
    return [file for file in index.files if (folder / file).exists()]


def _check_headers(folder: Path, weights: list[str]) -> None:
    """Reject files that are not safetensors, or not as long as their headers say.

    Raises:
        AdapterError: corrupt, or no_weights (one is missing).
    """
    for name in weights:
        if name.endswith(".safetensors"):
            read_header(folder / name)


def _check_size(folder: Path, weights: list[str], limit: int) -> None:
    """Reject an adapter that is too large to copy: it is read from a copy.

    Raises:
        AdapterError: too_large.
    """
    size = sum(file_size(folder / name) for name in weights)
    if size > limit:
        raise too_large(size, limit)


def _state(folder: Path, files: list[str]) -> tuple[float, str]:
    """When the newest file was changed [seconds], and the SHA-1 of all files."""
    modified, digest = 0.0, sha1(usedforsecurity=False)
    for name in files:
        with open_file(folder / name) as file:
            status = os.fstat(file.fileno())
            modified = max(modified, status.st_mtime)
            digest.update(f"{Path(name).name}\0{status.st_size}\0".encode())
            try:
                while block := file.read(_BLOCK):
                    digest.update(block)
            except OSError as error:
                raise AdapterError(Reason.CORRUPT, f"{folder / name}: {error.strerror}") from error
    return modified, digest.hexdigest()
