"""Damaged Parquet files are named and left out; the others stay readable."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from geometry import adapter

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow
from hubdelta.sql.connection import Queries, connect

OverParquet = Callable[[Index], Queries]

VECTORS = "SELECT adapter FROM vectors WHERE length(delta) > 0"


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


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def adapters_of(index: Index) -> list[str]:
    with connect(index) as queries:
        assert queries.parquet is None
        return queries.run(VECTORS + " ORDER BY 1").column(0).to_pylist()


def test_a_truncated_file_is_named_at_each_connect_and_left_out(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        caplog.clear()
        assert adapters_of(two_files) == ["a/one"]
        (line,) = warnings(caplog)
        assert str(path) in line


def test_damaged_pages_are_found_when_the_cache_is_made(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = [newest(two_files, CatalogRow), newest(two_files, VectorRow)]
    for path in damaged:
        damage_pages(path)
    assert adapters_of(two_files) == ["a/one"]
    assert len(warnings(caplog)) == 2
    assert all(str(path) in caplog.text for path in damaged)
    with connect(two_files) as queries:
        rows = queries.run("SELECT adapter, status FROM adapters").to_pylist()
    assert rows == [{"adapter": "a/one", "status": "embedded"}]


def test_a_file_that_is_damaged_when_the_cache_has_its_rows_is_no_loss(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    assert adapters_of(two_files) == ["a/one", "a/two"]
    damage_pages(newest(two_files, VectorRow))
    assert adapters_of(two_files) == ["a/one", "a/two"]
    assert warnings(caplog) == []


def test_a_damaged_file_that_was_mended_is_read(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    sound, state = path.read_bytes(), path.stat()
    damage_pages(path)
    assert adapters_of(two_files) == ["a/one"]
    path.write_bytes(sound)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    caplog.clear()
    assert adapters_of(two_files) == ["a/one", "a/two"]
    assert warnings(caplog) == []


@pytest.mark.slow
def test_a_file_without_permission_is_named_and_read_as_soon_as_it_can_be(
    two_files: Index, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = newest(two_files, VectorRow), Path.open

    def refused(place: Path, *arguments: Any, **named: Any) -> Any:
        if place == path:
            raise PermissionError(13, "Permission denied", str(place))
        return opened(place, *arguments, **named)

    with monkeypatch.context() as without_permission:
        without_permission.setattr(Path, "open", refused)
        assert adapters_of(two_files) == ["a/one"]
    assert f"no permission to read the file {path}" in caplog.text
    caplog.clear()
    assert adapters_of(two_files) == ["a/one", "a/two"]
    assert warnings(caplog) == []


def test_a_damaged_file_that_was_removed_is_no_longer_named(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    damage_pages(path)
    assert adapters_of(two_files) == ["a/one"]
    path.unlink()
    caplog.clear()
    assert adapters_of(two_files) == ["a/one"]
    assert warnings(caplog) == []


def test_a_cache_answers_though_no_file_with_rows_can_be_read(
    two_files: Index, caplog: pytest.LogCaptureFixture
) -> None:
    for path in two_files.files(VectorRow):
        path.write_bytes(b"no parquet")
    assert adapters_of(two_files) == []
    assert len(warnings(caplog)) == 2


@pytest.mark.slow
def test_a_wrong_query_blames_neither_a_file_nor_the_cache(
    two_files: Index, over_parquet: OverParquet, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(two_files) as cached:
        for queries in (cached, over_parquet(two_files)):
            for wrong in ("SELECT error(adapter) FROM adapters", "SELECT [1][1:2:0] FROM adapters"):
                with pytest.raises(QueryError):
                    queries.run(wrong)
    assert warnings(caplog) == []


def test_over_parquet_a_truncated_file_is_left_out(
    two_files: Index, over_parquet: OverParquet, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    path.write_bytes(path.read_bytes()[:-20])
    queries = over_parquet(two_files)
    assert queries.run("SELECT adapter FROM vectors").to_pylist() == [{"adapter": "a/one"}]
    assert str(path) in caplog.text


def test_over_parquet_damaged_pages_are_found_when_they_are_read(
    two_files: Index, over_parquet: OverParquet, caplog: pytest.LogCaptureFixture
) -> None:
    path = newest(two_files, VectorRow)
    damage_pages(path)
    queries = over_parquet(two_files)
    assert str(path) not in caplog.text
    assert queries.run(VECTORS).to_pylist() == [{"adapter": "a/one"}]
    assert caplog.text.count(str(path)) == 1
    assert len(queries.run("FROM neighbors('a/one')")) == 0
    assert caplog.text.count(str(path)) == 1
    assert len(queries.run("FROM adapters")) == 2


def test_over_parquet_damage_in_several_tables_is_found_at_once(
    two_files: Index, over_parquet: OverParquet, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = [newest(two_files, CatalogRow), newest(two_files, VectorRow)]
    for path in damaged:
        damage_pages(path)
    queries = over_parquet(two_files)
    rows = queries.run("SELECT adapter, status FROM adapters").to_pylist()
    assert rows == [{"adapter": "a/one", "status": "embedded"}]
    assert all(str(path) in caplog.text for path in damaged)


def test_over_parquet_a_table_without_any_readable_file_is_empty(
    two_files: Index, over_parquet: OverParquet, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = two_files.files(VectorRow)
    for path in damaged:
        path.write_bytes(b"no parquet")
    assert over_parquet(two_files).run("SELECT adapter FROM vectors").to_pylist() == []
    assert all(str(path) in caplog.text for path in damaged)
