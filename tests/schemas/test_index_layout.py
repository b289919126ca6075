"""The folder of a table, as other readers of Parquet see it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from rows import catalog_row, vector_row

from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import crawled_bases

BASES = ["/models/ä 100%/a=b", "gpt2", "org/base-1.5", "org/other"]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index")
    for base in BASES:
        index.write([catalog_row(base=base)], base=base)
        index.write([vector_row(base=base), vector_row(base=base, repo_id="a/b")], base=base)
    return index


def plain_duckdb(folder: Path) -> list[Any]:
    with duckdb.connect() as database:
        rows = database.execute(
            "SELECT base FROM read_parquet($files)", {"files": f"{folder}/**/*.parquet"}
        ).fetchall()
    return [base for (base,) in rows]


READERS: dict[str, Callable[[Path], Any]] = {
    "duckdb": plain_duckdb,
    "pandas": lambda folder: pd.read_parquet(folder)["base"],
    "polars": lambda folder: pl.read_parquet(folder)["base"],
    "polars, lazily": lambda folder: pl.scan_parquet(folder).select("base").collect()["base"],
    "polars, by pattern": lambda folder: pl.read_parquet(
        f"{folder}/**/*.parquet", hive_partitioning=True
    )["base"],
    "pyarrow": lambda folder: (
        ds.dataset(folder, partitioning="hive").to_table()["base"].to_pylist()
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_table_is_read_with_the_names_of_its_bases(index: Index, reader: str) -> None:
    bases = [str(base) for base in READERS[reader](index.root / "vectors")]
    assert sorted(bases) == sorted(BASES * 2)
    assert sorted(map(str, READERS[reader](index.root / "catalog"))) == sorted(BASES)


@pytest.mark.parametrize("read", [pd.read_parquet, pl.read_parquet])
def test_one_folder_and_one_file_are_read(index: Index, read: Callable[[Path], Any]) -> None:
    folder = index.root / "vectors" / "base=org%2Fbase-1.5"
    (file,) = folder.iterdir()
    assert sorted(read(folder)["repo_id"]) == sorted(read(file)["repo_id"])
    assert len(read(folder)) == 2


def test_the_bases_are_told_by_the_folders_alone(index: Index) -> None:
    assert crawled_bases(index.root) == BASES
