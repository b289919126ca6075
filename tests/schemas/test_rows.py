"""Rows and their Arrow schemas."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from hubdelta.schemas.arrow import rows_of, schema_of, table_of
from hubdelta.schemas.rows import TABLES, RunRow


@pytest.mark.parametrize("row_type", TABLES, ids=lambda row_type: row_type.table)
def test_every_column_says_what_it_means(row_type):
    schema = schema_of(row_type)
    assert schema.names == [spec.name for spec in fields(row_type)]
    for column in schema:
        assert len(column.metadata[b"description"]) > 3, column.name


def test_rows_come_back_as_they_were():
    row = RunRow(
        run_id="r",
        kind="crawl",
        base="org/base",
        base_revision=None,
        outcome="done",
        started_at=datetime(2026, 11, 21, tzinfo=UTC),
        seconds=1.5,
        requests=3,
        counts={"new": 2},
        marks={"base_model:adapter:org/base": datetime(2026, 11, 20, tzinfo=UTC)},
        versions={},
    )
    assert rows_of(table_of([row], RunRow), RunRow) == [row]
