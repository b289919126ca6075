"""Exports: other programs read back what the index holds."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from map_pools import HIDDEN, add, clustered, drawn, names

from hubdelta.explorer.exports import WRITERS, Export
from hubdelta.explorer.pool import opened_pool
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import LabelRow
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow

N = 40


@pytest.fixture
def deltas() -> np.ndarray:
    return clustered(N) * np.arange(1, N + 1, dtype=np.float32)[:, None]


@pytest.fixture
def full(index: Index, deltas: np.ndarray) -> Index:
    for start in (20, 0):  # stored in another order than that of the names
        add(index, names(start, start + 20), deltas[start : start + 20], datasets=["d/x"])
    index.write([LabelRow(adapter="a/00001", label="law", labelled_at=datetime.now(UTC))])
    return index


def exported(index: Index, output_format: str) -> tuple[io.BytesIO, np.ndarray]:
    file = io.BytesIO()
    with connect(index) as queries, opened_pool(queries) as pool:
        placement, domains = drawn(pool)
        WRITERS[output_format](Export(pool, placement, domains), file)
    file.seek(0)
    return file, placement.xy


def test_parquet_has_a_row_an_adapter_with_its_vector(full: Index, deltas: np.ndarray):
    file, xy = exported(full, "parquet")
    table = pq.read_table(file)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), HIDDEN)
    rows = {row["adapter"]: row for row in table.to_pylist()}
    assert len(rows) == len(table) == N
    for number, name in enumerate(names(0, N)):
        assert np.array_equal(np.array(rows[name]["vector"], np.float32), deltas[number])
        assert (rows[name]["x"], rows[name]["y"]) == tuple(xy[number])
    row = rows["a/00001"]
    assert (row["base"], row["recipe_id"], row["revision"]) == ("org/base", "recipe", "0" * 40)
    assert (row["label"], row["domain"], row["datasets"]) == ("law", "law", ["d/x"])


def test_npz_needs_no_pickle(full: Index, deltas: np.ndarray):
    file, xy = exported(full, "npz")
    found = np.load(file, allow_pickle=False)
    assert found["vectors"].dtype == np.float32
    assert np.array_equal(found["vectors"], deltas)
    assert np.array_equal(found["xy"], xy)
    assert found["adapters"].tolist() == names(0, N)
    assert set(found["revisions"]) == {"0" * 40}
    assert set(found["bases"]) == {"org/base"}
    assert set(found["recipe_ids"]) == {"recipe"}
    assert len(found.files) == 6


def test_embedding_atlas_has_coordinates_and_rows_of_neighbors(full: Index):
    file, xy = exported(full, "embedding-atlas")
    table = pq.read_table(file)
    assert np.array_equal(np.array(table["projection_x"]), xy[:, 0])
    assert np.array_equal(np.array(table["projection_y"]), xy[:, 1])
    found = table["neighbors"].to_pylist()
    assert {len(row["ids"]) for row in found} == {len(row["distances"]) for row in found} == {N}
    for number, row in enumerate(found):
        assert (row["ids"][0], row["distances"][0]) == (number, 0)
        assert {other % 4 for other in row["ids"][:10]} == {number % 4}
        assert row["distances"] == sorted(row["distances"])


@pytest.mark.parametrize("output_format", WRITERS)
def test_one_adapter_is_enough(index: Index, output_format: str):
    add(index, names(0, 1), clustered(1))
    file, _ = exported(index, output_format)
    assert len(file.read()) > 100
