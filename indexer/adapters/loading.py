"""From a row of the catalog to an adapter in memory: inspect, then fetch, then read.

Inspecting costs a ranged request and a small file, and settles whether the weights are worth
fetching. The fetch then takes only the files that the engine reads, at the cataloged commit, and
omits tensors of the output layer from an adapter's safetensors, since no hidden state depends on
them.
"""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha1
from pathlib import Path, PurePosixPath
from typing import Any

from hubdelta.crawler.adapter_files import MODEL_CONFIG
from hubdelta.crawler.card import Cards, card_text
from hubdelta.crawler.describe import DeclaredBases
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune, PeftAdapter
from hubdelta.indexer.adapters.adapter_config import (
    CONFIG_FILE,
    LONGEST_CONFIG,
    AdapterConfig,
)
from hubdelta.indexer.adapters.adapter_names import Placement
from hubdelta.indexer.adapters.checkpoint import open_local, open_remote
from hubdelta.indexer.adapters.chosen_weights import (
    ChosenWeights,
    choose_weights,
    reject_unreadable,
)
from hubdelta.indexer.adapters.fits import Fits
from hubdelta.indexer.adapters.layer_replication import (
    check_replication,
)
from hubdelta.indexer.adapters.model_config import parse_model_config
from hubdelta.indexer.adapters.patterns import check_patterns
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.adapters.quantization import with_statement_beside
from hubdelta.indexer.adapters.source import Folder, Repository, Source, too_large
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.kinds import Kind
from hubdelta.schemas.rows import CatalogRow

logger = logging.getLogger(__name__)

_LONGEST_NAME = 100  # characters of a repository's name in a folder's name


@dataclass(frozen=True)
class Inspected:
    """An adapter whose weights are worth fetching.

    Attributes:
        pending: which one.
        config: its adapter_config.json, or the config.json of a full finetune.
        text: that config, as read.
        weights: its weight files.
        memory_bytes: the space it takes until it is embedded, on disk or in memory.
        needed_bytes: how much to fetch over the network.
        card: text of its model card, if it has one.
        files: hashes of what it was read from, as `VectorRow.files`.
        placement: of its tensors in the base; None if only reading the files shows what they hold.
    """

    pending: Pending
    config: AdapterConfig | Mapping[str, Any]
    text: bytes
    weights: ChosenWeights
    memory_bytes: int
    needed_bytes: int
    card: str | None = None
    files: dict[str, str] | None = None
    placement: Placement | None = None


@dataclass(frozen=True)
class Obtainer:
    """Gets adapters from the Hub, or from local folders.

    Its methods are called from several threads at once, each for a different adapter.

    Attributes:
        hub: the Hub.
        base: the base that they must fit.
        folder: where downloads go.
        max_bytes: weights larger than this are not fetched.
        keep: do not delete downloads.
    """

    hub: Hub
    base: BaseStructure
    folder: Path
    max_bytes: int
    keep: bool = False
    _cards: Cards = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cards", Cards(self.hub))  # one for all threads

    def inspect(self, pending: Pending) -> Inspected:
        """Check everything that can be checked before fetching the weights.

        Raises:
            AdapterError: it cannot be embedded, and why.
            HubError, IndexWriteError: nothing can be fetched now.
        """
        row, source = pending.row, self._source(pending)
        _reject_known(row)
        config: AdapterConfig | Mapping[str, Any]
        text = source.text(_config_path(row), limit=LONGEST_CONFIG)
        if row.kind == Kind.FULL:
            config = parse_model_config(text, self.base)
        else:
            config = AdapterConfig.parse(text)
            check_patterns(config, self.base.names)
            check_replication(config, self.base)
            self._check_base(row, config)
        weights = choose_weights(source, row.weights_files)
        if not isinstance(config, AdapterConfig):
            config = with_statement_beside(
                config,
                {tensor.dtype for tensor in weights.tensors.values()},
                lambda file: source.text(_inside(row, file), limit=LONGEST_CONFIG),
            )
        memory_bytes = needed_bytes = weights.size
        placement = None
        if weights.headers is not None and isinstance(config, AdapterConfig):
            fit = self._fits.of(config, weights)
            placement = fit.placement
            memory_bytes, needed_bytes = fit.memory_bytes, fit.needed_bytes
        elif weights.headers is not None:
            memory_bytes = needed_bytes = 0  # it is streamed when its turn comes
        needed_bytes += sum(header.header_bytes for header in (weights.headers or {}).values())
        size = weights.size if self.keep else memory_bytes
        if size > self.max_bytes:
            raise too_large(size, self.max_bytes)
        card = source.card()
        needed_bytes = 0 if _is_local(row) else needed_bytes + len(text) + len(card)
        return Inspected(
            pending,
            config,
            text,
            weights,
            memory_bytes,
            needed_bytes,
            card_text(card),
            source.hashes,
            placement,
        )

    def fetch(self, inspected: Inspected) -> None:
        """Fetch what is needed of an adapter, or all of it if it is to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
            HubError, IndexWriteError: nothing can be fetched now.
        """
        row, weights = inspected.pending.row, inspected.weights
        adapter = isinstance(inspected.config, AdapterConfig)
        if _is_local(row) and not adapter:
            return  # it is read in place
        source, root = self._source(inspected.pending), self._place(inspected.pending)
        if weights.headers is None:
            for file in weights.files:
                source.copy(file, root)
        elif adapter or self.keep:
            for file, header in weights.headers.items():
                wanted = _every if self.keep else partial(self._reads, inspected, file)
                source.copy_tensors(file, header, wanted, root)
        if self.keep and not _is_local(row):
            (root / _config_path(row)).write_bytes(inspected.text)

    def read(self, inspected: Inspected) -> Adapter:
        """Read fetched weights; the files are deleted unless they are to be kept.

        Raises:
            AdapterError: it cannot be embedded, and why.
        """
        pending, weights, root = inspected.pending, inspected.weights, self._root(inspected)
        paths = [root / file for file in weights.files]
        if not isinstance(inspected.config, AdapterConfig):
            if _is_local(pending.row) or weights.headers is None or self.keep:
                checkpoint = open_local(paths, weights.index)
            else:
                checkpoint = open_remote(
                    self.hub, pending.key, weights.headers, self.base.folder, index=weights.index
                )
            return FullFinetune(
                pending.key,
                inspected.config,
                checkpoint,
                weights.size,
                inspected.card,
                inspected.files,
            )
        placement = inspected.placement
        wanted = None if placement is None else placement.names.__contains__
        try:
            tensors = read_tensors(paths, wanted, weights.index)
        finally:
            self.release(pending)
        if placement is None:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            placement = self._fits.place(inspected.config, shapes)
        return PeftAdapter(
            pending.key,
            placement.config,
            placement.tensors(tensors),
            weights.size,
            inspected.card,
            inspected.files,
        )

    def release(self, pending: Pending) -> None:
        """Delete what was fetched for an adapter, unless it is to be kept."""
        if not self.keep or _is_local(pending.row):
            shutil.rmtree(self._place(pending), ignore_errors=True)

    @cached_property
    def _fits(self) -> Fits:
        return Fits(self.base)

    def _check_base(self, row: CatalogRow, config: AdapterConfig) -> None:
        """Check the base that an adapter's own config names, if a crawl could not see it.

        Raises:
            AdapterError: base_mismatch, or network.
            HubError: offline, or a refused token.
        """
        declared = config.values.get("base_model_name_or_path")
        if not isinstance(declared, str) or declared == row.declared_base:
            return
        found = self._bases.resolve(declared, row.base)
        if found != row.base:
            raise _other_base(row, f"its adapter_config.json names {declared}", found)

    @staticmethod
    def _reads(inspected: Inspected, file: str, name: str) -> bool:
        """Whether a tensor of a file is read."""
        placement = inspected.placement
        is_needed = placement is not None and name in placement.names
        return is_needed and inspected.weights.file_of[name] == file

    @cached_property
    def _bases(self) -> DeclaredBases:
        return DeclaredBases(self.hub)

    def _source(self, pending: Pending) -> Source:
        if _is_local(pending.row):
            return Folder(Path(pending.row.repo_id))
        return Repository(self.hub, pending.key, self._cards)

    def _root(self, inspected: Inspected) -> Path:
        """The folder to read its files from."""
        row, adapter = inspected.pending.row, isinstance(inspected.config, AdapterConfig)
        in_place = _is_local(row) and not adapter
        return Path(row.repo_id) if in_place else self._place(inspected.pending)

    def _place(self, pending: Pending) -> Path:
        name = str(pending.key)
        digest = sha1(name.encode(), usedforsecurity=False).hexdigest()[:12]
        readable = pending.row.repo_id.replace("/", "--")[-_LONGEST_NAME:]
        return self.folder / f"{readable}--{digest}"


def _every(name: str) -> bool:
    return True


def _is_local(row: CatalogRow) -> bool:
    return row.repo_id.startswith("/")


def _reject_known(row: CatalogRow) -> None:
    """Reject adapters the catalog already rules out."""
    if row.disabled:
        raise AdapterError(Reason.DISABLED, "the Hub has disabled this repository")
    if row.canonical_base is not None and row.canonical_base != row.base:
        says = (
            f"it is tagged as an adapter of {row.canonical_base}"
            if row.evidence == "tag"
            else f"its adapter_config.json names {row.declared_base or row.canonical_base}"
        )
        raise _other_base(row, says, row.canonical_base)
    reject_unreadable(row.weights_files)


def _other_base(row: CatalogRow, says: str, found: str) -> AdapterError:
    return AdapterError(Reason.BASE_MISMATCH, f"{says}, not {row.base}: index it under {found}")


def _config_path(row: CatalogRow) -> str:
    return _inside(row, MODEL_CONFIG if row.kind == Kind.FULL else CONFIG_FILE)


def _inside(row: CatalogRow, name: str) -> str:
    return str(PurePosixPath(row.subfolder) / name)
