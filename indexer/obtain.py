"""From a row of the catalog to an adapter in memory: inspect, then fetch, then read.

Inspecting costs a ranged request and a small file, and settles whether the weights are worth
fetching; the fetch then takes only the files that the engine reads, at the catalogued commit.
"""

import json
import shutil
from dataclasses import dataclass
from hashlib import sha1
from math import prod
from pathlib import Path, PurePosixPath

from hubdelta.crawler.downloads import fetch, file_info, small_file, weight_header
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.base_model import BaseModel
from hubdelta.indexer.engine import Adapter, FullFinetune, PeftAdapter
from hubdelta.indexer.fit import Shape, check_fit, check_ranks
from hubdelta.indexer.plan import Pending
from hubdelta.indexer.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.rows import CatalogRow

_MODEL_CONFIG = "config.json"
_SHARD_INDEX = "model.safetensors.index.json"
_PICKLE_SHARD_INDEX = "pytorch_model.bin.index.json"
_LONGEST_CONFIG = 1 << 20  # bytes; real ones have a few thousand


@dataclass(frozen=True)
class Inspected:
    """An adapter whose weights are worth fetching.

    Attributes:
        pending: which one.
        config: its adapter_config.json; None for a full finetune.
        weight_bytes: size of its weight files.
        memory_bytes: what it takes until it is embedded: on disk, or in memory in fp32.
    """

    pending: Pending
    config: AdapterConfig | None
    weight_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class Obtainer:
    """Gets adapters from the Hub, or from local folders.

    Its methods are called from several threads at once, each for an adapter of its own.

    Attributes:
        hub: the Hub.
        base: the base that they must fit.
        folder: where downloads are put.
        max_bytes: weights larger than this are not fetched.
        keep: leave the downloads where they are.
    """

    hub: Hub
    base: BaseModel
    folder: Path
    max_bytes: int
    keep: bool = False

    def inspect(self, pending: Pending) -> Inspected:
        """Check all that can be checked before the weights are fetched.

        Raises:
            AdapterError: it cannot be embedded, and why.
            HubError, IndexWriteError: nothing can be fetched now.
        """
        row = pending.row
        _reject_known(row)
        config = None
        if row.kind == "full":
            self._check_model(self._read(pending, _inside(row, _MODEL_CONFIG)))
        else:
            config = AdapterConfig.parse(self._read(pending, _inside(row, CONFIG_FILE)))
        tensors, weight_bytes = self._look_at_weights(pending)
        if tensors is None:  # a pickle tells its shapes only when it is read; bf16 doubles then
            memory_bytes = 2 * weight_bytes
        else:
            memory_bytes = max(weight_bytes, 4 * sum(map(prod, tensors.values())))
        if weight_bytes > self.max_bytes:
            raise AdapterError(
                Reason.TOO_LARGE,
                f"{weight_bytes / 1e9:.1f} GB of weights, more than the "
                f"{self.max_bytes / 1e9:.1f} GB that --disk-budget allows",
            )
        if config is None:
            return Inspected(pending, None, weight_bytes, weight_bytes)
        if tensors is not None:
            check_fit(tensors, self.base.shapes)
            check_ranks(config, tensors)
        return Inspected(pending, config, weight_bytes, memory_bytes)

    def obtain(self, inspected: Inspected) -> Adapter:
        """Fetch the weights and read them; the files are deleted unless they are to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
            HubError, IndexWriteError: nothing can be fetched now.
        """
        pending, row = inspected.pending, inspected.pending.row
        root = Path(row.repo_id) if _is_local(row) else self._place(pending)
        if not _is_local(row):
            files = list(row.weights_files)
            if inspected.config is None:
                files.append(_inside(row, _MODEL_CONFIG))
            if inspected.config is None and len(row.weights_files) > 1:
                safe = row.weights_files[0].endswith(".safetensors")
                files.append(_inside(row, _SHARD_INDEX if safe else _PICKLE_SHARD_INDEX))
            elif self.keep:
                files.append(_inside(row, CONFIG_FILE))
            fetch(self.hub, pending.key, files, root)
        if inspected.config is None:
            return FullFinetune(pending.key, root / row.subfolder, inspected.weight_bytes)
        try:
            tensors = read_tensors([root / file for file in row.weights_files])
        finally:
            self.release(pending)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        check_fit(shapes, self.base.shapes)
        check_ranks(inspected.config, shapes)
        return PeftAdapter(pending.key, inspected.config, tensors, inspected.weight_bytes)

    def release(self, pending: Pending) -> None:
        """Delete what was downloaded for an adapter, unless it is to be kept."""
        if not self.keep and not _is_local(pending.row):
            shutil.rmtree(self._place(pending), ignore_errors=True)

    def _read(self, pending: Pending, path: str) -> bytes:
        """A small file of the adapter."""
        if not _is_local(pending.row):
            return small_file(self.hub, pending.key, path, limit=_LONGEST_CONFIG)
        file = Path(pending.row.repo_id) / path
        try:
            return file.read_bytes()
        except OSError as error:
            raise AdapterError(Reason.CORRUPT, f"{file}: {error.strerror}") from error

    def _check_model(self, content: bytes) -> None:
        """Refuse a full finetune of another architecture by its config.json."""
        try:
            config = json.loads(content)
        except ValueError as error:
            raise AdapterError(Reason.CORRUPT, f"{_MODEL_CONFIG} is not JSON: {error}") from error
        found = config if isinstance(config, dict) else {}
        if (found.get("model_type"), found.get("hidden_size")) != (
            self.base.model_type,
            self.base.hidden_size,
        ):
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"a {found.get('model_type')} of hidden size {found.get('hidden_size')}; the base "
                f"is a {self.base.model_type} of {self.base.hidden_size}",
            )

    def _look_at_weights(self, pending: Pending) -> tuple[dict[str, Shape] | None, int]:
        """Tensor shapes, where they can be told without reading the weights, and bytes."""
        row, files = pending.row, pending.row.weights_files
        if _is_local(row):
            return None, sum((Path(row.repo_id) / file).stat().st_size for file in files)
        if all(file.endswith(".safetensors") for file in files):
            headers = [weight_header(self.hub, pending.key, file) for file in files]
            tensors = (tensor for header in headers for tensor in header.tensors.items())
            shapes = {name: tensor.shape for name, tensor in tensors}
            return shapes, sum(header.file_bytes for header in headers)
        sizes = file_info(self.hub, pending.key, files)
        return None, sum(file.size for file in sizes.values())

    def _place(self, pending: Pending) -> Path:
        name = str(pending.key)
        digest = sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]
        return self.folder / f"{pending.row.repo_id.replace('/', '--')}--{digest}"


def _is_local(row: CatalogRow) -> bool:
    return row.repo_id.startswith("/")


def _reject_known(row: CatalogRow) -> None:
    """Refuse what the catalog already shows to be without hope."""
    if row.disabled:
        raise AdapterError(Reason.DISABLED, "the Hub has disabled this repository")
    if row.canonical_base is not None and row.canonical_base != row.base:
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"its adapter_config.json names {row.declared_base or row.canonical_base}, "
            f"not {row.base}: index it under --base {row.canonical_base}",
        )
    if not row.weights_files:
        raise AdapterError(Reason.NO_WEIGHTS, "the repository holds no weight file")


def _inside(row: CatalogRow, name: str) -> str:
    return str(PurePosixPath(row.subfolder) / name)
