"""What a crawl records, whatever the clock says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from rows import catalog_row

from hubdelta.crawler.ledger import Ledger, newest_rows
from hubdelta.indexer.pipeline.plan import newest
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow
from hubdelta.sql.connection import connect

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def test_a_change_counts_though_the_clock_was_years_ahead_before(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index")
    for commit, seen in (("1", NOW + timedelta(days=3000)), ("2", NOW), ("3", NOW)):
        ledger = Ledger(index, "org/base", "run", popularity=False)
        ledger.record([catalog_row(revision=commit * 40, crawled_at=seen)])
        ledger.write()
    assert [row.revision for row in newest_rows(index, "org/base").values()] == ["3" * 40]
    rows = rows_of(index.read(CatalogRow, base="org/base"), CatalogRow)
    assert [row.revision for row in newest(rows)] == ["3" * 40]
    with connect(index) as queries:
        found = queries.run("SELECT revision FROM adapters").to_pylist()
    assert found == [{"revision": "3" * 40}]
