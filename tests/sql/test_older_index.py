"""An index that an earlier version wrote, as it is read before and after a run of this one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rows import catalog_row, vector_row
from test_answers import run_row

from hubdelta.schemas.arrow import VERSION_KEY
from hubdelta.schemas.errors import UnreadableError
from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import base_in, columns_file
from hubdelta.schemas.rows import TABLES, CatalogRow, RunRow, VectorRow
from hubdelta.sql.connection import Queries, connect

ADDED_IN_2 = ["fetched_bytes", "needed_bytes", "busy", "waited"]

Rewrite = Callable[[Index, int], Index]


def as_of_version(index: Index, version: int) -> Index:
    """Write an index anew as versions 1 to 3 did: `base` is a column, folders are `ORG--NAME`."""
    for row_type in TABLES:
        columns = columns_file(index.root, row_type)
        for path in list((index.root / row_type.table).rglob("*.parquet")):
            table = pq.read_table(path, partitioning=None)
            place = index.root / row_type.table / f"schema-v{version}.parquet"
            if row_type.by_base and path == columns:
                table = table.add_column(0, "base", [[]])
            elif row_type.by_base:
                base = base_in(path)
                table = table.add_column(0, "base", [[base] * len(table)])
                place = place.parent / f"base={base.replace('/', '--')}" / path.name
            elif path != columns:
                place = path
            if version == 1:
                table = table.drop_columns([n for n in ADDED_IN_2 if n in table.column_names])
            path.unlink()
            place.parent.mkdir(exist_ok=True)
            metadata = {VERSION_KEY: str(version).encode()}
            pq.write_table(table.replace_schema_metadata(metadata), place)
        for empty in [f for f in (index.root / row_type.table).iterdir() if f.is_dir()]:
            if not any(empty.iterdir()):
                empty.rmdir()
    return Index.open(index.root)


@pytest.fixture
def older(index: Index) -> Index:
    """An index of version 1 with two bases, one without an organization, and a run."""
    for base in ("org/base", "gpt2"):
        index.write([catalog_row(base=base, repo_id=f"{base}-lora")], base=base)
        index.write([vector_row(base=base, repo_id=f"{base}-lora")], base=base)
    index.write([run_row()], base="org/base")
    return as_of_version(index, 1)


QUERY = "SELECT run_id, fetched_bytes, busy FROM runs"
ANSWER = [{"run_id": "r", "fetched_bytes": None, "busy": None}]
BASES = "SELECT v.base, a.adapter FROM vectors AS v JOIN adapters AS a USING (base) ORDER BY ALL"
HELD = [
    {"base": "gpt2", "adapter": "gpt2-lora"},
    {"base": "org/base", "adapter": "org/base-lora"},
]


def test_the_cache_has_its_rows_with_new_columns_null(older: Index) -> None:
    with connect(older) as queries:
        assert queries.parquet is None
        assert queries.run(QUERY).to_pylist() == ANSWER
        assert queries.run(BASES).to_pylist() == HELD


def test_so_does_a_connection_to_its_files_which_leaves_nothing_behind(
    older: Index, over_parquet: Callable[[Index], Queries]
) -> None:
    queries = over_parquet(older)
    assert queries.parquet is not None
    places = [path for paths in queries.parquet.tables.values() for path in paths]
    elsewhere = [path for path in places if older.root not in path.parents]
    assert elsewhere
    assert queries.run(QUERY).to_pylist() == ANSWER
    assert queries.run(BASES).to_pylist() == HELD
    queries.close()
    assert not any(path.exists() for path in elsewhere)


def test_its_rows_are_read_by_base(older: Index) -> None:
    (row,) = older.read(RunRow, base="org/base").to_pylist()
    assert row["requests"] == 3
    assert row["needed_bytes"] is None
    for row_type in (CatalogRow, VectorRow):
        (row,) = older.read(row_type, base="org/base").to_pylist()
        assert (row["base"], row["repo_id"]) == ("org/base", "org/base-lora")


@pytest.mark.slow
def test_the_next_run_moves_its_rows_to_where_they_belong(older: Index) -> None:
    with connect(older) as queries:
        before = queries.run("FROM vectors ORDER BY adapter").to_pylist()
    index = Index.create(older.root)
    with index.writing():
        pass
    kept = {path.relative_to(index.root) for path in index.files(VectorRow)}
    assert {path.parent.name for path in kept} == {
        "base=org%2Fbase",
        "base=gpt2",
        "base=.none",
    }
    assert not any("base" in pq.read_schema(index.root / path).names for path in kept)
    with connect(index) as queries:
        assert queries.run("FROM vectors ORDER BY adapter").to_pylist() == before
        assert queries.run(BASES).to_pylist() == HELD


def test_a_run_that_was_killed_while_it_moved_them_is_finished_by_the_next(
    older: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = Path.unlink

    def killed(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent.name == "base=org--base":
            raise KeyboardInterrupt
        removed(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    index = Index.create(older.root)
    with pytest.raises(KeyboardInterrupt), index.writing():
        pass
    monkeypatch.undo()
    with index.writing():
        pass
    with connect(index) as queries:
        assert queries.run(BASES).to_pylist() == HELD
        assert queries.run("SELECT count(*) AS n FROM vectors").to_pylist() == [{"n": 2}]


def harmed(index: Index) -> tuple[Path, bytes]:
    """Damage the pages of an older file, not its footer: the file, and what it held."""
    (path,) = (index.root / "vectors" / "base=org--base").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(196) + whole[200:])
    return path, whole


@pytest.mark.slow
def test_a_damaged_file_of_an_earlier_version_is_named_and_moved_once_it_is_mended(
    older: Index, caplog: pytest.LogCaptureFixture
) -> None:
    path, whole = harmed(older)
    index = Index.create(older.root)
    with index.writing():
        assert str(path) in caplog.text
    with connect(index) as queries:
        assert queries.run("SELECT base FROM vectors").to_pylist() == [{"base": "gpt2"}]
    path.write_bytes(whole)
    with index.writing():
        assert not path.exists()
    assert len(index.read(VectorRow, base="org/base")) == 1
    with connect(index) as queries:
        assert queries.run(BASES).to_pylist() == HELD


def test_over_parquet_a_damaged_file_of_an_earlier_version_is_named_and_left_out(
    older: Index, over_parquet: Callable[[Index], Queries], caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = harmed(older)
    queries = over_parquet(older)
    assert str(path) in caplog.text
    assert queries.run("SELECT base FROM vectors").to_pylist() == [{"base": "gpt2"}]


def test_a_file_that_cannot_be_read_at_the_moment_is_neither_damaged_nor_passed_over(
    older: Index,
) -> None:
    (path,) = (older.root / "vectors" / "base=org--base").iterdir()
    kept = path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.name)  # a loop, which even the superuser cannot follow
    index = Index.create(older.root)
    with pytest.raises(UnreadableError, match="cannot read the file"), index.writing():
        pass
    kept.replace(path)
    with index.writing():
        pass
    assert len(index.read(VectorRow, base="org/base")) == 1
