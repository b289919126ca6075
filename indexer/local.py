"""Adapters that stand in a folder of this machine, as rows of the catalog."""

from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path

from hubdelta.crawler.base_names import hub_name
from hubdelta.indexer.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import CatalogRow

_MODEL_WEIGHTS: tuple[str, ...] = ("model*.safetensors", "pytorch_model*.bin")
_ADAPTER_WEIGHTS: tuple[str, ...] = ("adapter_model.safetensors", "adapter_model.bin")
_BLOCK = 1 << 20  # bytes


def describe_folder(name: AdapterName, base: str, *, run_id: str) -> CatalogRow:
    """The catalog row of an adapter in a local folder.

    A base that it names as ORG/NAME is its canonical base; a path that it names says nothing
    about which model stood there, and so leaves the word to the caller. The revision is the
    SHA-1 of its files, so that a folder whose contents change becomes a new key.

    Args:
        name: a local adapter.
        base: the base it is to be embedded under.
        run_id: goes into the row.

    Raises:
        AdapterError: not_found (the folder holds no adapter and no model), corrupt.
    """
    folder = Path(name.repo_id)
    config_file = folder / CONFIG_FILE
    if config_file.is_file():
        config = AdapterConfig.read(config_file)
        kind, patterns = "adapter", _ADAPTER_WEIGHTS
        declared = config.values.get("base_model_name_or_path")
        task_type = config.values.get("task_type")
    elif (folder / "config.json").is_file():
        kind, patterns = "full", _MODEL_WEIGHTS
        config_file, declared, task_type = folder / "config.json", None, None
    else:
        raise AdapterError(
            Reason.NOT_FOUND, f"{folder} holds neither {CONFIG_FILE} nor config.json"
        )
    weights = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    declared = declared if isinstance(declared, str) and declared else None
    named = hub_name(declared or "")
    modified = max(path.stat().st_mtime for path in (config_file, *weights))
    return CatalogRow(
        base=base,
        repo_id=name.repo_id,
        subfolder="",
        revision=_digest([config_file, *weights]),
        kind=kind,
        relation="adapter" if kind == "adapter" else "finetune",
        canonical_base=named if named and not base.startswith("/") else base,
        evidence="named",
        declared_base=declared,
        via=None,
        weights_files=[path.name for path in weights],
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
    """The SHA-1 of a local model's configuration and weights, 40 hex digits."""
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")])
    return _digest([folder / "config.json", *weights])


def _digest(files: list[Path]) -> str:
    digest = sha1(usedforsecurity=False)
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
