"""An index that an earlier version wrote, as this one reads it before any run of its own."""

from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
from test_answers import run_row

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import TABLES, VERSION_KEY, RunRow
from hubdelta.sql.connection import Queries, connect

ADDED_IN_2 = ["fetched_bytes", "needed_bytes", "busy", "waited"]


@pytest.fixture
def of_version_1(index: Index) -> Index:
    index.write([run_row()], base="org/base")
    for row_type in TABLES:
        for path in (index.root / row_type.table).rglob("*.parquet"):
            table = pq.read_table(path)
            table = table.drop_columns([n for n in ADDED_IN_2 if n in table.column_names])
            pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"1"}), path)
            if path.name.startswith("schema-v"):
                path.rename(path.with_name("schema-v1.parquet"))
    return Index.open(index.root)


QUERY = "SELECT run_id, fetched_bytes, busy FROM runs"
ANSWER = [{"run_id": "r", "fetched_bytes": None, "busy": None}]


def test_its_new_columns_are_null_in_the_cache(of_version_1: Index) -> None:
    with connect(of_version_1) as queries:
        assert queries.parquet is None
        assert queries.run(QUERY).to_pylist() == ANSWER


def test_its_new_columns_are_null_over_parquet_and_leave_no_folder_behind(
    of_version_1: Index, over_parquet: Callable[[Index], Queries]
) -> None:
    queries = over_parquet(of_version_1)
    assert queries.parquet is not None
    places = [path for paths in queries.parquet.tables.values() for path in paths]
    elsewhere = [path for path in places if of_version_1.root not in path.parents]
    assert len(elsewhere) == len(TABLES)
    assert queries.run(QUERY).to_pylist() == ANSWER
    queries.close()
    assert not any(path.exists() for path in elsewhere)


def test_its_rows_are_read_and_the_next_run_adds_the_columns(of_version_1: Index) -> None:
    (row,) = of_version_1.read(RunRow, base="org/base").to_pylist()
    assert row["requests"] == 3
    assert row["needed_bytes"] is None
    assert not of_version_1.has_newest_columns
    assert Index.create(of_version_1.root).has_newest_columns
