"""From a row of the catalog to an adapter in memory: inspect, then fetch, then read.

Inspecting costs a ranged request and a small file, and settles whether the weights are worth
fetching; the fetch then takes only the files that the engine reads, at the catalogued commit.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hubdelta.crawler.downloads import fetch, file_info, weight_header
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.engine import Adapter, FullFinetune, PeftAdapter
from hubdelta.indexer.fit import check_fit
from hubdelta.indexer.plan import Pending
from hubdelta.indexer.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.rows import CatalogRow

_MODEL_CONFIG = "config.json"
_SHARD_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Inspected:
    """An adapter whose weights are worth fetching.

    Attributes:
        pending: which one.
        config: its adapter_config.json; None for a full finetune.
        weight_bytes: size of its weight files.
    """

    pending: Pending
    config: AdapterConfig | None
    weight_bytes: int


@dataclass(frozen=True)
class Obtainer:
    """Gets adapters from the Hub, or from local folders.

    Its methods are called from several threads at once, each for an adapter of its own.

    Attributes:
        hub: the Hub.
        modules: the base's module name → (out_features, in_features).
        folder: where downloads are put.
        max_bytes: weights larger than this are not fetched.
        keep: leave the downloads where they are.
    """

    hub: Hub
    modules: Mapping[str, tuple[int, int]]
    folder: Path
    max_bytes: int
    keep: bool = False

    def inspect(self, pending: Pending) -> Inspected:
        """Check all that can be checked before the weights are fetched.

        Raises:
            AdapterError: it cannot be embedded, and why.
        """
        row = pending.row
        _reject_known(row)
        config = None
        if row.kind != "full":
            path = _inside(row, CONFIG_FILE)
            if not self._is_local(row):
                fetch(self.hub, pending.key, [path], self._place(pending))
            config = AdapterConfig.read(self._root(pending) / path)
        size = self._local_size(row) if self._is_local(row) else self._remote_size(pending)
        if size > self.max_bytes:
            raise AdapterError(
                Reason.TOO_LARGE,
                f"{size / 1e9:.1f} GB of weights, more than the {self.max_bytes / 1e9:.1f} GB that "
                "--disk-budget allows",
            )
        return Inspected(pending, config, size)

    def obtain(self, inspected: Inspected) -> Adapter:
        """Fetch the weights and read them; the files are deleted unless they are to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
        """
        pending, row = inspected.pending, inspected.pending.row
        files = list(row.weights_files)
        if not self._is_local(row):
            if inspected.config is None:
                files.append(_inside(row, _MODEL_CONFIG))
                if len(row.weights_files) > 1:
                    files.append(_inside(row, _SHARD_INDEX))
            fetch(self.hub, pending.key, files, self._place(pending))
        root = self._root(pending)
        if inspected.config is None:
            return FullFinetune(pending.key, root / row.subfolder, inspected.weight_bytes)
        try:
            tensors = read_tensors([root / file for file in row.weights_files])
        finally:
            self.release(pending)
        check_fit({name: tuple(t.shape) for name, t in tensors.items()}, self.modules)
        return PeftAdapter(pending.key, inspected.config, tensors, inspected.weight_bytes)

    def release(self, pending: Pending) -> None:
        """Delete what was downloaded for an adapter, unless it is to be kept."""
        if not self.keep and not self._is_local(pending.row):
            shutil.rmtree(self._place(pending), ignore_errors=True)

    def _remote_size(self, pending: Pending) -> int:
        row = pending.row
        if row.kind != "full" and all(f.endswith(".safetensors") for f in row.weights_files):
            headers = [weight_header(self.hub, pending.key, file) for file in row.weights_files]
            check_fit(
                {
                    name: tensor.shape
                    for header in headers
                    for name, tensor in header.tensors.items()
                },
                self.modules,
            )
            return sum(header.file_bytes for header in headers)
        sizes = file_info(self.hub, pending.key, row.weights_files)
        return sum(file.size for file in sizes.values())

    def _local_size(self, row: CatalogRow) -> int:
        return sum((Path(row.repo_id) / file).stat().st_size for file in row.weights_files)

    def _root(self, pending: Pending) -> Path:
        return Path(pending.row.repo_id) if self._is_local(pending.row) else self._place(pending)

    def _place(self, pending: Pending) -> Path:
        return self.folder / str(pending.key).replace("/", "--")

    @staticmethod
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
