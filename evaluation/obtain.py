"""The adapters of the index, fetched again: one at a time, through the crawler's downloads."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from hubdelta.crawler.hub import Hub
from hubdelta.evaluation.members import Member
from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.indexer.adapters.loading import Inspected, Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending, key_of
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.engine import attempt
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import AdapterError, HubError, Reason
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterKey, AdapterName
from hubdelta.schemas.rows import CatalogRow

logger = logging.getLogger(__name__)

MAY_HEAL = frozenset({Reason.NETWORK, Reason.GATED, Reason.NOT_FOUND, Reason.ENGINE})
"""Reasons that may not hold the next time."""

_OUTAGE: Final = 3
"""After so many network failures in a row, each after several attempts, the Hub counts as down."""


@dataclass(frozen=True)
class Obtained:
    """An adapter at the commit of its vector.

    Attributes:
        member: which one.
        adapter: its weights, or why there are none.
        fetched_bytes: received from the Hub for it.
        output_layer: whether its files also change the output layer, which is not fetched.
    """

    member: Member
    adapter: Adapter | AdapterError
    fetched_bytes: int
    output_layer: bool = False


@dataclass(frozen=True)
class AdapterSource:
    """Where the adapters of one base come from.

    Attributes:
        index: its catalog says which files an adapter has.
        hub: the Hub.
        base: the base, with or without weights.
        base_name: ORG/NAME, or a local folder's path.
        downloads: folder for downloaded weights.
        max_bytes: weights larger than this are not fetched.
    """

    index: Index
    hub: Hub
    base: BaseStructure
    base_name: str
    downloads: Path
    max_bytes: int

    def adapters(self, members: Sequence[Member]) -> Iterator[Obtained]:
        """The adapters one by one; each leaves the disk before the next one comes.

        Raises:
            HubError, IndexWriteError: nothing can be fetched now.
        """
        unanswered = 0
        for member in members:
            before = self.hub.bytes_received
            inspected: list[Inspected] = []
            adapter = attempt(member.key, partial(self._adapter, member, inspected))
            if isinstance(adapter, AdapterError):
                logger.warning("%s: %s: %s", member.key, adapter.reason, adapter)
            is_lost = isinstance(adapter, AdapterError) and adapter.reason is Reason.NETWORK
            unanswered = unanswered + 1 if is_lost else 0
            if unanswered == _OUTAGE:
                raise HubError(f"{unanswered} adapters in a row failed, the last with: {adapter}")
            yield Obtained(
                member,
                adapter,
                self.hub.bytes_received - before,
                any(map(self._changes_output_layer, inspected)),
            )

    def _adapter(self, member: Member, seen: list[Inspected]) -> Adapter:
        pending = Pending(self._row(member), attempt=1)
        obtainer = self._obtainer
        inspected = obtainer.inspect(pending)
        seen.append(inspected)
        try:
            obtainer.fetch(inspected)
            return obtainer.read(inspected)
        finally:
            obtainer.release(pending)

    def _row(self, member: Member) -> CatalogRow:
        """The catalog's row of an adapter at its vector's commit.

        Raises:
            AdapterError: not_found: it is gone from the catalog, or a folder that has changed.
        """
        key = member.key
        row = self._catalog.get(key) or self._catalog.get(replace(key, revision=""))
        if row is None:
            raise AdapterError(Reason.NOT_FOUND, "the catalog no longer has it: run a full crawl")
        name = AdapterName(key.repo_id, key.subfolder)
        if name.is_local:
            present = describe_folder(name, self.base_name, run_id=row.run_id)
            if present.revision != key.revision:
                raise AdapterError(Reason.NOT_FOUND, "its folder has changed since: embed it again")
        return replace(row, revision=key.revision)

    @cached_property
    def _catalog(self) -> dict[AdapterKey, CatalogRow]:
        """The latest row of each adapter at a commit and, with revision "", at any."""
        rows = rows_of(self.index.read(CatalogRow, base=self.base_name), CatalogRow)
        rows.sort(key=lambda row: row.crawled_at)
        latest = {replace(key_of(row), revision=""): row for row in rows}
        return latest | {key_of(row): row for row in rows}

    @cached_property
    def _obtainer(self) -> Obtainer:
        return Obtainer(self.hub, self.base, self.downloads, self.max_bytes)

    def _changes_output_layer(self, inspected: Inspected) -> bool:
        output = self.base.output_layer
        if output is None:
            return False
        saved = inspected.weights.tensors if inspected.weights.headers is not None else ()
        return any(f".{output}." in f".{name}" for name in saved)
