"""Adapters at a new commit that changed none of the files their vectors were made from.

Most new commits of an adapter edit its card. One request to the API, which asks for the hashes of
the files, then stands for three file resolves and all of its weights.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from hubdelta.crawler.card import CARD_FILE, card_text, fetch_card
from hubdelta.crawler.downloads import files_there
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.pipeline.plan import Plan
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow, rows_of

_BATCH = 1000  # adapters in a file, and the most that a kill can lose


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
        failure is recorded where others' are.

    Raises:
        HubError: offline, or a refused token.
        IndexWriteError: the index cannot be written.
    """
    earlier = _earlier(index, base, recipe_id, {one.row.repo_id for one in plan.pending})

    def kept(pending: Pending) -> VectorRow | None:
        before = earlier.get((pending.row.repo_id, pending.row.subfolder))
        return before and _at_new_commit(hub, pending, before, run_id)

    rows, left = [], []
    with ThreadPoolExecutor(workers) as pool:
        for pending, row in zip(plan.pending, pool.map(kept, plan.pending), strict=True):
            if row is None:
                left.append(pending)
                continue
            rows.append(row)
            if len(rows) == _BATCH:
                index.write(rows, base=base)
                rows = []
    index.write(rows, base=base)
    return Plan(left, plan.skipped)


def _earlier(
    index: Index, base: str, recipe_id: str, repo_ids: Collection[str]
) -> dict[tuple[str, str], VectorRow]:
    """The newest vector of each (repository, subfolder) whose files can be recognized."""
    newest: dict[tuple[str, str], VectorRow] = {}
    for row in rows_of(index.read(VectorRow, base=base, repo_ids=repo_ids), VectorRow):
        name = (row.repo_id, row.subfolder)
        if row.recipe_id != recipe_id or row.files is None:
            continue
        if name not in newest or row.embedded_at >= newest[name].embedded_at:
            newest[name] = row
    return newest


def _at_new_commit(hub: Hub, pending: Pending, before: VectorRow, run_id: str) -> VectorRow | None:
    """The row of a vector for a new commit, or None if it has to be made anew."""
    row, files = pending.row, dict(before.files or {})
    if not _is_embeddable(row) or not files.keys() >= set(row.weights_files):
        return None
    try:
        found = files_there(hub, pending.key, sorted({*files, CARD_FILE}))
    except AdapterError:
        return None
    there = {path: file.hash for path, file in found.items()}
    if any(there.get(path, "") != known for path, known in files.items() if path != CARD_FILE):
        return None
    card = before.card
    if there.get(CARD_FILE, "") != files.get(CARD_FILE):
        fetched = fetch_card(hub, pending.key)
        if fetched.hash is None:
            return None
        card, files[CARD_FILE] = card_text(fetched.content), fetched.hash
    return replace(
        before,
        revision=row.revision,
        card=card,
        files=files,
        embedded_at=datetime.now(UTC),
        run_id=run_id,
    )


def _is_embeddable(row: CatalogRow) -> bool:
    """Whether the catalog, which may have changed since, does not rule it out."""
    return not row.disabled and row.canonical_base in (None, row.base)
