"""What a crawl records: rows that are new, changed or gone, in batches."""

from collections.abc import Iterable, Set
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Final

from hubdelta.crawler.catalog import NAMED
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.kinds import Kind
from hubdelta.schemas.rows import CatalogRow

Key = tuple[str, str]
"""Repository and subfolder, which stay the same from commit to commit."""

_BATCH: Final = 1000  # rows per Parquet file, and the most that a kill can lose
_CRAWL_COLUMNS = frozenset({"crawled_at", "run_id"})
_POPULARITY = frozenset({"downloads", "likes"})


def newest_rows(index: Index, base: str) -> dict[Key, CatalogRow]:
    """The newest row of each (repository, subfolder) of a base, vanished ones included."""
    rows = rows_of(index.read(CatalogRow, base=base), CatalogRow)
    return {_key(row): row for row in sorted(rows, key=lambda row: row.crawled_at)}


class Ledger:
    """The catalog of one base, before and during a crawl.

    Args:
        index: where to write rows.
        base: the base.
        run_id: the crawl's, for the rows of what has vanished.
        popularity: whether downloads and likes, which change every day, count as changes.

    Attributes:
        counts: adapters listed, new, changed and vanished, so far.
    """

    def __init__(self, index: Index, base: str, run_id: str, *, popularity: bool) -> None:
        self._index, self._base, self._run_id = index, base, run_id
        self._left_out = _CRAWL_COLUMNS if popularity else _CRAWL_COLUMNS | _POPULARITY
        self._newest = newest_rows(index, base)
        self._folders: dict[str, set[Key]] = {}
        for key in self._newest:
            self._folders.setdefault(key[0], set()).add(key)
        self._seen: set[Key] = set()
        self._unwritten: list[CatalogRow] = []
        self.counts = dict.fromkeys(("listed", "new", "changed", "vanished"), 0)

    def present(self) -> list[CatalogRow]:
        """The newest rows of what has not vanished."""
        return [row for row in self._newest.values() if row.vanished_at is None]

    def record(self, rows: list[CatalogRow]) -> None:
        """Record all rows of one repository; unchanged ones are not written.

        Raises:
            IndexWriteError: no space, no permission.
        """
        for row in rows:
            key = _key(row)
            counted = row.kind != Kind.MIRROR and key not in self._seen
            self._seen.add(key)
            before = self._newest.get(key)
            self.counts["listed"] += counted
            if before is None:
                self.counts["new"] += counted
            elif self._differ(row, before):
                self.counts["changed"] += counted
            else:
                continue
            self._keep(row)
        for repo_id in {row.repo_id for row in rows}:
            left = self._folders.get(repo_id, set()) - {_key(row) for row in rows}
            self._vanish(self._newest[key] for key in sorted(left))

    def amend(self, rows: Iterable[CatalogRow]) -> None:
        """Record rows of earlier crawls that are now read differently; none counts as listed.

        Raises:
            IndexWriteError: no space, no permission.
        """
        for row in rows:
            self._keep(row)

    def unseen(self, relations: Set[str], repo_ids: Set[str]) -> list[CatalogRow]:
        """Rows not yet marked as vanished that a complete walk did not record.

        Args:
            relations: not walked; repositories with one of them are left out.
            repo_ids: seen but unreadable; left out.
        """
        spared = {row.repo_id for row in self._newest.values() if row.relation in relations}
        spared |= repo_ids
        return [
            row
            for key, row in self._newest.items()
            if key not in self._seen
            and row.vanished_at is None
            and row.evidence != NAMED  # no crawl found it, so none can miss it
            and row.repo_id not in spared
        ]

    def vanish(self, rows: Iterable[CatalogRow]) -> None:
        """Mark what is gone.

        Raises:
            IndexWriteError: no space, no permission.
        """
        self._vanish(rows)

    def write(self) -> None:
        """Write the pending rows.

        Raises:
            IndexWriteError: no space, no permission.
        """
        rows, self._unwritten = self._unwritten, []
        self._index.write(rows, base=self._base)

    def _differ(self, row: CatalogRow, before: CatalogRow) -> bool:
        names = (spec.name for spec in fields(CatalogRow) if spec.name not in self._left_out)
        return any(getattr(row, name) != getattr(before, name) for name in names)

    def _vanish(self, rows: Iterable[CatalogRow]) -> None:
        for row in rows:
            # Named by the user, not found by a crawl, so a crawl cannot miss it.
            if row.vanished_at is None and row.evidence != NAMED:
                now = datetime.now(UTC)
                self.counts["vanished"] += row.kind != Kind.MIRROR
                self._keep(replace(row, vanished_at=now, crawled_at=now, run_id=self._run_id))

    def _keep(self, row: CatalogRow) -> None:
        row = row.after(self._newest.get(_key(row)))
        self._newest[_key(row)] = row
        self._folders.setdefault(row.repo_id, set()).add(_key(row))
        self._unwritten.append(row)
        if len(self._unwritten) >= _BATCH:
            self.write()


def _key(row: CatalogRow) -> Key:
    return row.repo_id, row.subfolder
