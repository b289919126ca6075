"""Adapters at a new commit that changed none of the files their vectors were made from.

Most new commits of an adapter edit its card. One request to the API, which asks for the hashes of
the files, then stands for three file resolves and all of its weights.
"""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Event

import pyarrow as pa
import pyarrow.compute as pc

from hubdelta.crawler.card import CARD_FILE, card_text, fetch_card
from hubdelta.crawler.downloads import files_there
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.pipeline.plan import Plan
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import CatalogRow, PromotionRow, VectorRow

_BATCH = 1000  # adapters whose vectors are held, and the most that a kill can lose

Name = tuple[str, str]
"""Repository and subfolder, which stay the same from commit to commit."""


def keep_unchanged(
    plan: Plan, *, index: Index, base: str, recipe_id: str, hub: Hub, run_id: str, workers: int
) -> Plan:
    """Write the known vectors of unchanged adapters for their new commits.

    Args:
        plan: what is pending.
        index: has the vectors of earlier commits; the caller holds it for writing.
        base: the base model.
        recipe_id: vectors of this recipe are kept.
        hub: where the hashes are: one request for each adapter that has a vector at an earlier
            commit, and a file resolve where the card changed.
        run_id: goes into each row.
        workers: concurrent requests.

    Returns:
        What is left to embed. An adapter whose files cannot be asked for is left, so that its
        failure is recorded where others' are; once the network fails, no more are asked for.

    Raises:
        HubError: offline, or a refused token.
        IndexWriteError: the index cannot be written.
        KeyboardInterrupt: Ctrl-C; what was kept before is written.
    """
    known = _embedded_before(index, base, recipe_id, {one.row.repo_id for one in plan.pending})
    asked = [one for one in plan.pending if _name(one.row) in known]
    keeper, kept = _Keeper(hub, run_id), set[Name]()
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        earlier = _earlier(index, base, recipe_id, {one.row.repo_id for one in batch})
        before = [earlier.get(_name(one.row)) for one in batch]
        with ThreadPoolExecutor(workers) as pool:
            try:
                found = list(pool.map(keeper.kept, batch, before))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        rows = [row for row in found if row is not None]
        index.write(rows, base=base)
        index.write(_promotions(index, rows, recipe_id), base=base)
        kept |= {_name(row) for row in rows}
    return Plan([one for one in plan.pending if _name(one.row) not in kept], plan.skipped)


def _name(row: CatalogRow | VectorRow) -> Name:
    return row.repo_id, row.subfolder


def _embedded_before(
    index: Index, base: str, recipe_id: str, repo_ids: Collection[str]
) -> set[Name]:
    """Which adapters of some repositories have a vector of the recipe."""
    columns = ["repo_id", "subfolder", "recipe_id"]
    table = index.read(VectorRow, base=base, columns=columns, repo_ids=repo_ids)
    table = table.filter(pc.equal(table["recipe_id"], recipe_id))
    return set(zip(table["repo_id"].to_pylist(), table["subfolder"].to_pylist(), strict=True))


def _earlier(
    index: Index, base: str, recipe_id: str, repo_ids: Collection[str]
) -> dict[Name, VectorRow]:
    """The newest vector of each adapter whose files can be recognized."""
    table = index.read(VectorRow, base=base, repo_ids=repo_ids)
    wanted = pc.and_(pc.equal(table["recipe_id"], recipe_id), pc.is_valid(table["files"]))
    rows = rows_of(table.filter(wanted).sort_by("embedded_at"), VectorRow)
    return {_name(row): row for row in rows}


def _promotions(index: Index, rows: Sequence[VectorRow], recipe_id: str) -> list[PromotionRow]:
    """What kept vectors promote, for their new commits too."""
    if not rows:
        return []
    by_name = {str(AdapterName(*_name(row))): row for row in rows}
    table = index.read(PromotionRow, base=rows[0].base).sort_by("read_at")
    wanted = pc.and_(
        pc.equal(table["recipe_id"], recipe_id),
        pc.is_in(table["adapter"], pa.array(by_name, pa.string())),
    )
    newest = {row.adapter: row for row in rows_of(table.filter(wanted), PromotionRow)}
    return [
        replace(
            row,
            revision=by_name[name].revision,
            read_at=datetime.now(UTC),
            run_id=by_name[name].run_id,
        )
        for name, row in newest.items()
    ]


@dataclass(frozen=True)
class _Keeper:
    """Asks the Hub whether adapters are as they were; thread-safe.

    Attributes:
        hub: the Hub.
        run_id: goes into each row.
    """

    hub: Hub
    run_id: str
    _is_down: Event = field(default_factory=Event)

    def kept(self, pending: Pending, before: VectorRow | None) -> VectorRow | None:
        """The row of a vector for a new commit, or None if it has to be made anew."""
        row = pending.row
        files = dict((before and before.files) or {})
        if before is None or self._is_down.is_set() or not _is_embeddable(row):
            return None
        if not files.keys() >= set(row.weights_files):
            return None
        try:
            found = files_there(self.hub, pending.key, sorted({*files, CARD_FILE}))
        except AdapterError as error:
            if error.reason is Reason.NETWORK:
                self._is_down.set()
            return None
        there = {path: file.hash for path, file in found.items()}
        weighty = files.items() - {(CARD_FILE, files.get(CARD_FILE))}
        if any(there.get(path, "") != known for path, known in weighty):
            return None
        card = before.card
        if there.get(CARD_FILE, "") != files.get(CARD_FILE):
            fetched = fetch_card(self.hub, pending.key)
            if fetched.hash is None:
                return None
            card, files[CARD_FILE] = card_text(fetched.content), fetched.hash
        return replace(
            before,
            revision=row.revision,
            card=card,
            files=files,
            embedded_at=datetime.now(UTC),
            run_id=self.run_id,
        )


def _is_embeddable(row: CatalogRow) -> bool:
    """Whether the catalog, which may have changed since, does not rule it out."""
    return not row.disabled and row.canonical_base in (None, row.base)
