"""Damaged Parquet files are named and left out; the others stay readable."""

import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from geometry import adapter

from hubdelta.schemas.errors import DamagedFileError, QueryError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow
from hubdelta.sql.connection import connect


@pytest.fixture
def two_files(fill: Callable[..., Index]) -> Index:
    fill(adapter("a/one", 0))
    return fill(adapter("a/two", 10))


def newest(index: Index, row_type: type[CatalogRow] | type[VectorRow]) -> Path:
    return [path for path in index.files(row_type) if not path.name.startswith("schema")][-1]


def damage_pages(path: Path) -> None:
    """Overwrite every page, and leave the footer as it is."""
    data = bytearray(path.read_bytes())
    footer = int.from_bytes(data[-8:-4], "little") + 8
    data[4 : len(data) - footer] = b"\xff" * (len(data) - footer - 4)
    path.write_bytes(data)
    assert pq.ParquetFile(path).metadata.num_rows == 1


def test_a_truncated_file_is_left_out(two_files: Index, caplog: pytest.LogCaptureFixture) -> None:
    path = newest(two_files, VectorRow)
    path.write_bytes(path.read_bytes()[:-20])
    with connect(two_files) as queries:
        assert queries.run("SELECT adapter FROM vectors").to_pylist() == [{"adapter": "a/one"}]
    assert str(path) in caplog.text


def test_damaged_pages_are_found_when_they_are_read(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    damage_pages(path)
    with connect(two_files) as queries:
        assert str(path) not in caplog.text
        query = "SELECT adapter FROM vectors WHERE length(delta) > 0"
        assert queries.run(query).to_pylist() == [{"adapter": "a/one"}]
        assert caplog.text.count(str(path)) == 1
        assert len(queries.run("FROM neighbors('a/one')")) == 0
        assert caplog.text.count(str(path)) == 1
        assert len(queries.run("FROM adapters")) == 2


def test_damage_in_several_tables_is_found_at_once(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = [newest(two_files, CatalogRow), newest(two_files, VectorRow)]
    for path in damaged:
        damage_pages(path)
    with connect(two_files) as queries:
        rows = queries.run("SELECT adapter, status FROM adapters").to_pylist()
    assert rows == [{"adapter": "a/one", "status": "embedded"}]
    assert all(str(path) in caplog.text for path in damaged)


def test_a_wrong_query_blames_no_file(two_files: Index, caplog: pytest.LogCaptureFixture) -> None:
    with connect(two_files) as queries, pytest.raises(QueryError):
        queries.run("SELECT error(adapter) FROM adapters")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_table_without_any_readable_file_is_one_clear_line(index: Index) -> None:
    for path in index.files(VectorRow):
        path.write_bytes(b"no parquet")
    with pytest.raises(DamagedFileError, match="vectors"):
        connect(index)
