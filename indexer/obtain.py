"""From a row of the catalog to an adapter in memory: inspect, then fetch, then read.

Inspecting costs a ranged request and a small file, and settles whether the weights are worth
fetching; the fetch then takes only the files that the engine reads, at the catalogued commit, and
of an adapter's safetensors not the tensors of the output layer, which no hidden state depends on.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path, PurePosixPath
from typing import Any

from hubdelta.crawler.card import CARD_BYTES, CARD_FILE, card_text, fetch_card
from hubdelta.crawler.downloads import fetch, file_info, small_file, weight_header
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.partial_fetch import fetch_tensors
from hubdelta.crawler.safetensors_header import Header, Tensor
from hubdelta.indexer.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engine import Adapter, FullFinetune, PeftAdapter
from hubdelta.indexer.fit import PREFIX, Shape, check_fit, check_ranks
from hubdelta.indexer.model_config import parse_model_config
from hubdelta.indexer.plan import Pending
from hubdelta.indexer.streamed.checkpoint import open_local, open_remote
from hubdelta.indexer.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.rows import CatalogRow

logger = logging.getLogger(__name__)

_MODEL_CONFIG = "config.json"
_LONGEST_CONFIG = 1 << 20  # bytes; real ones have a few thousand


@dataclass(frozen=True)
class Inspected:
    """An adapter whose weights are worth fetching.

    Attributes:
        pending: which one.
        config: its adapter_config.json, or the config.json of a full finetune.
        text: that config, as it was read.
        weight_bytes: size of its weight files.
        memory_bytes: what it takes until it is embedded, on disk or in memory.
        needed_bytes: what must come over the network for it.
        card: text of its model card, if it has one.
        headers: of each of its weight files; None where only reading them tells what they hold.
    """

    pending: Pending
    config: AdapterConfig | Mapping[str, Any]
    text: bytes
    weight_bytes: int
    memory_bytes: int
    needed_bytes: int
    card: str | None = None
    headers: Mapping[str, Header] | None = None


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
    base: BaseStructure
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
        config: AdapterConfig | Mapping[str, Any]
        text = self._read(
            pending, _inside(row, _MODEL_CONFIG if row.kind == "full" else CONFIG_FILE)
        )
        config = (
            parse_model_config(text, self.base) if row.kind == "full" else AdapterConfig.parse(text)
        )
        headers, weight_bytes = self._look_at_weights(pending)
        memory_bytes = needed_bytes = weight_bytes
        if headers is not None and isinstance(config, AdapterConfig):
            tensors = {name: t for header in headers.values() for name, t in header.tensors.items()}
            self._check_shapes(config, {name: tensor.shape for name, tensor in tensors.items()})
            needed = [tensor for name, tensor in tensors.items() if self._needs(name)]
            memory_bytes = sum(map(_held_bytes, needed))
            needed_bytes = sum(tensor.bytes for tensor in needed)
        elif headers is not None:
            memory_bytes = needed_bytes = 0  # it is streamed, when its turn has come
        needed_bytes += sum(header.header_bytes for header in (headers or {}).values())
        size = weight_bytes if self.keep else memory_bytes
        if size > self.max_bytes:
            raise AdapterError(
                Reason.TOO_LARGE,
                f"{size / 1e6:,.1f} MB of weights, more than the {self.max_bytes / 1e6:,.1f} MB "
                "that --disk-budget allows: raise it, and use --retry-failed",
            )
        card = self._read_card(pending)
        needed_bytes = 0 if _is_local(row) else needed_bytes + len(text) + len(card)
        return Inspected(
            pending,
            config,
            text,
            weight_bytes,
            memory_bytes,
            needed_bytes,
            card_text(card),
            headers,
        )

    def fetch(self, inspected: Inspected) -> None:
        """Download what is read of an adapter, or all of it where it is to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
            HubError, IndexWriteError: nothing can be fetched now.
        """
        row, key = inspected.pending.row, inspected.pending.key
        if _is_local(row):
            return
        root, adapter = self._place(inspected.pending), isinstance(inspected.config, AdapterConfig)
        if inspected.headers is None:
            fetch(self.hub, key, list(row.weights_files), root)
        elif adapter or self.keep:
            wanted = _every if self.keep else self._needs
            for file, header in inspected.headers.items():
                fetch_tensors(self.hub, key, file, header, wanted, root)
        if self.keep:
            config = root / _inside(row, CONFIG_FILE if adapter else _MODEL_CONFIG)
            config.write_bytes(inspected.text)

    def read(self, inspected: Inspected) -> Adapter:
        """Read weights that are there; the files are deleted unless they are to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
        """
        pending, row = inspected.pending, inspected.pending.row
        root = Path(row.repo_id) if _is_local(row) else self._place(pending)
        paths = [root / file for file in row.weights_files]
        if not isinstance(inspected.config, AdapterConfig):
            if inspected.headers is None or self.keep:
                checkpoint = open_local(paths)
            else:
                checkpoint = open_remote(self.hub, pending.key, inspected.headers, self.base.folder)
            return FullFinetune(
                pending.key,
                inspected.config,
                checkpoint,
                inspected.weight_bytes,
                inspected.card,
            )
        try:
            if inspected.headers is not None:
                tensors = read_tensors(paths, self._needs)
            else:
                tensors = read_tensors(paths)
                shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
                self._check_shapes(inspected.config, shapes)
                tensors = {name: tensor for name, tensor in tensors.items() if self._needs(name)}
        finally:
            self.release(pending)
        return PeftAdapter(
            pending.key, inspected.config, tensors, inspected.weight_bytes, inspected.card
        )

    def release(self, pending: Pending) -> None:
        """Delete what was downloaded for an adapter, unless it is to be kept."""
        if not self.keep and not _is_local(pending.row):
            shutil.rmtree(self._place(pending), ignore_errors=True)

    def _needs(self, name: str) -> bool:
        """Whether a hidden state may depend on a tensor of an adapter.

        Where the output layer is tied to the input embedding, PEFT saves what it changes in the
        embedding under the embedding's own name as well.
        """
        return not self.base.is_above_hidden_state(name.removeprefix(PREFIX))

    def _check_shapes(self, config: AdapterConfig, shapes: Mapping[str, Shape]) -> None:
        check_fit(shapes, self.base.shapes)
        check_ranks(config, shapes)

    def _read(self, pending: Pending, path: str) -> bytes:
        """A small file of the adapter."""
        if not _is_local(pending.row):
            return small_file(self.hub, pending.key, path, limit=_LONGEST_CONFIG)
        file = Path(pending.row.repo_id) / path
        try:
            return file.read_bytes()
        except OSError as error:
            raise AdapterError(Reason.CORRUPT, f"{file}: {error.strerror}") from error

    def _read_card(self, pending: Pending) -> bytes:
        """The first bytes of the repository's model card; none where it has no readable one."""
        if not _is_local(pending.row):
            return fetch_card(self.hub, pending.key)
        path = Path(pending.row.repo_id) / CARD_FILE
        if not path.is_file():  # a pipe would never end
            return b""
        try:
            with path.open("rb") as file:
                return file.read(CARD_BYTES)
        except OSError as error:
            logger.debug("%s: %s", path, error)
            return b""

    def _look_at_weights(self, pending: Pending) -> tuple[dict[str, Header] | None, int]:
        """The weight files' headers, where they can be had by themselves, and bytes in all."""
        row, files = pending.row, pending.row.weights_files
        if _is_local(row):
            return None, sum((Path(row.repo_id) / file).stat().st_size for file in files)
        if all(file.endswith(".safetensors") for file in files):
            headers = {file: weight_header(self.hub, pending.key, file) for file in files}
            return headers, sum(header.file_bytes for header in headers.values())
        sizes = file_info(self.hub, pending.key, files)
        return None, sum(file.size for file in sizes.values())

    def _place(self, pending: Pending) -> Path:
        name = str(pending.key)
        digest = sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]
        return self.folder / f"{pending.row.repo_id.replace('/', '--')}--{digest}"


def _every(name: str) -> bool:
    return True


def _held_bytes(tensor: Tensor) -> int:
    """What a tensor takes as it is read: fp8 comes as fp32, the others as they are stored."""
    return tensor.bytes * (4 if tensor.dtype.startswith("F8_") else 1)


def _is_local(row: CatalogRow) -> bool:
    return row.repo_id.startswith("/")


def _reject_known(row: CatalogRow) -> None:
    """Refuse what the catalog already shows to be without hope."""
    if row.disabled:
        raise AdapterError(Reason.DISABLED, "the Hub has disabled this repository")
    if row.canonical_base is not None and row.canonical_base != row.base:
        says = (
            f"it is tagged as an adapter of {row.canonical_base}"
            if row.evidence == "tag"
            else f"its adapter_config.json names {row.declared_base or row.canonical_base}"
        )
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"{says}, not {row.base}: index it under --base {row.canonical_base}",
        )
    if not row.weights_files:
        raise AdapterError(Reason.NO_WEIGHTS, "the repository holds no weight file")


def _inside(row: CatalogRow, name: str) -> str:
    return str(PurePosixPath(row.subfolder) / name)
