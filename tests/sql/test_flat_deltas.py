"""The flat files of deltas are the cache's own, or the cache is made anew."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from random_pool import COUNT, QUESTIONS, add, answers
from rows import vector_row
from sharing import forbid_cache

from hubdelta.schemas.errors import QueryError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import VectorRow
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import connect
from hubdelta.sql.questions.answers import similar
from hubdelta.sql.questions.centered import centered

pytestmark = pytest.mark.slow

ROW = 64 * 4  # bytes of a delta


def flat_file(index: Index) -> Path:
    (path,) = (index.root / "hubdelta.deltas").iterdir()
    return path


def stored(index: Index) -> np.ndarray:
    """The deltas of the Parquet files, in the order of their slots."""
    rows = index.read(VectorRow, base="org/base")
    delta_of = dict(zip(rows["repo_id"].to_pylist(), rows["delta"].to_pylist(), strict=True))
    with duckdb.connect(str(path_of(index)), read_only=True) as database:
        slots = database.execute("SELECT repo_id FROM stored_vectors ORDER BY slot").fetchall()
    return np.array([delta_of[name] for (name,) in slots], np.float32)


def flat(index: Index) -> np.ndarray:
    return np.fromfile(flat_file(index), "<f4").reshape(-1, 64)


def test_they_are_the_deltas_of_the_cache_night_after_night(cached: Index) -> None:
    for night in range(300, 330, 10):
        add(cached, night, night + 10)
        cache.refresh(cached)
        np.testing.assert_array_equal(flat(cached), stored(cached))


def test_each_length_has_its_file(cached: Index) -> None:
    short = np.eye(10, 32, dtype=np.float32)
    rows = [vector_row(repo_id=f"b/{i}", base="org/short", delta=short[i]) for i in range(10)]
    cached.write(rows, base="org/short")
    cache.refresh(cached)
    files = sorted(
        (cached.root / "hubdelta.deltas").iterdir(), key=lambda path: path.stat().st_size
    )
    assert [path.stat().st_size for path in files] == [10 * 32 * 4, 300 * ROW]
    assert [path.name.split("-")[1] for path in files] == ["32.f32", "64.f32"]


def swap_rows(path: Path) -> None:
    rows = np.fromfile(path, "<f4").reshape(-1, 64)
    rows[::-1].copy().tofile(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "its folder removed": lambda path: shutil.rmtree(path.parent),
    "cut": lambda path: os.truncate(path, 200 * ROW),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_missing_is_made_again(
    cached: Index, wanted: list[Any], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    DAMAGE[damage](flat_file(cached))
    assert answers(cached) == wanted
    assert caplog.messages == []
    np.testing.assert_array_equal(flat(cached), stored(cached))


def of_nearest(change: Callable[[np.ndarray], object]) -> Callable[[Path], None]:
    """A change of no other row than that of the nearest neighbor of a/0000."""

    def apply(path: Path) -> None:
        rows = np.fromfile(path, "<f4").reshape(-1, 64)
        units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        change(rows[np.argsort(units @ units[0])[-2]])
        rows.tofile(path)

    return apply


CHANGES: dict[str, Callable[[Path], object]] = {
    "zeros": lambda path: path.write_bytes(bytes(300 * ROW)),
    "garbage": lambda path: path.write_bytes(os.urandom(300 * ROW)),
    "other rows": swap_rows,
    "the nearest is zero": of_nearest(lambda row: row.fill(0)),
    "the nearest is NaN": of_nearest(lambda row: row.fill(np.nan)),
    "a sign of the nearest": of_nearest(lambda row: np.negative(row[:1], out=row[:1])),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_sql", [True, False])
def test_other_deltas_are_noticed_and_the_query_is_answered(
    cached: Index, wanted: list[Any], change: str, in_sql: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(cached) as queries:
        CHANGES[change](flat_file(cached))
        if in_sql:
            found = queries.run("FROM neighbors('a/0000', k := 5)")
        else:
            found = similar(queries, AdapterName("a/0000"), 5)
        assert found.to_pylist() == wanted[1]
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "is damaged, and will not be used" in warning.getMessage()
    cache.refresh(cached)
    assert answers(cached) == wanted
    np.testing.assert_array_equal(flat(cached), stored(cached))


def test_damage_is_noticed_where_only_numpy_meets_it(
    cached: Index, wanted: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(cached)
    with duckdb.connect(str(path), read_only=True) as database:
        ((block,),) = database.execute(
            "SELECT max(block_id) FROM pragma_storage_info('sketched') WHERE persistent"
            " AND column_name = 'sketch'"
        ).fetchall()
    with path.open("r+b") as file:
        file.seek(3 * 4096 + block * 2**18 + 2**14)
        file.write(os.urandom(2**15))
    with connect(cached) as queries:
        assert queries.run("FROM neighbors('a/0000', k := 5)").to_pylist() == wanted[1]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_a_delta_that_no_search_compares_is_checked_too(
    cached: Index, caplog: pytest.LogCaptureFixture
) -> None:
    cached.write([vector_row(repo_id="b/zero", delta=np.zeros(64, np.float32))], base="org/base")
    cache.refresh(cached)
    with connect(cached) as queries:
        with flat_file(cached).open("r+b") as file:
            file.seek(300 * ROW)
            file.write(b"\1")
        found = queries.run("SELECT delta FROM vectors WHERE adapter = 'b/zero'")
    assert found["delta"].to_pylist() == [[0.0] * 64]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


def test_deltas_of_several_lengths_come_together_in_the_order_of_the_rows(index: Index) -> None:
    rng = np.random.default_rng(0)
    stored = {
        f"{name}/{night}": rng.normal(size=hidden).astype(np.float32)
        for night in range(3)
        for name, hidden in (("a", 6), ("b", 9), ("c", 1))
    }
    for name, delta in stored.items():
        index.write([vector_row(repo_id=name, delta=delta)], base="org/base")
    with connect(index) as queries:
        assert queries.parquet is None
        rows = queries.run("SELECT adapter, delta FROM vectors").to_pylist()
    assert {row["adapter"]: row["delta"] for row in rows} == {
        name: delta.tolist() for name, delta in stored.items()
    }


def test_no_delta_is_no_error(cached: Index) -> None:
    with connect(cached) as queries:
        found = queries.run("SELECT hubdelta_delta(n, n, n) AS delta FROM (SELECT NULL AS n)")
    assert found["delta"].to_pylist() == [None]


def test_centering_over_other_deltas_says_so_and_the_cache_is_made_anew(cached: Index) -> None:
    with connect(cached) as queries:
        queries.link()
        CHANGES["garbage"](flat_file(cached))
        with pytest.raises(QueryError, match="ask again"), centered(queries):
            pass
    with connect(cached) as queries, centered(queries):
        assert len(queries.run("FROM domains(NULL, distance := 0.5)")) > 0


def test_an_unsafe_connection_fails_once_and_the_next_one_heals(
    cached: Index, wanted: list[Any]
) -> None:
    CHANGES["garbage"](flat_file(cached))
    with connect(cached, unsafe=True) as queries, pytest.raises(QueryError, match="do not match"):
        queries.run("FROM neighbors('a/0000', k := 5)")
    with connect(cached, unsafe=True) as queries:
        assert queries.run("FROM neighbors('a/0000', k := 5)").to_pylist() == wanted[1]


def test_a_failed_refresh_leaves_no_file(cached: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    add(cached, 300, 310)
    monkeypatch.setattr("hubdelta.sql.cache.flat_deltas.os.fsync", full)
    for _ in range(3):
        with connect(cached) as queries:
            assert queries.parquet is not None
    assert len(list((cached.root / "hubdelta.deltas").iterdir())) <= 1
    monkeypatch.undo()
    cache.refresh(cached)
    np.testing.assert_array_equal(flat(cached), stored(cached))


def test_rows_that_a_broken_off_refresh_left_are_overwritten(cached: Index) -> None:
    with flat_file(cached).open("ab") as file:
        file.write(os.urandom(5 * ROW + 7))
    add(cached, 300, 310)
    cache.refresh(cached)
    np.testing.assert_array_equal(flat(cached), stored(cached))


def test_who_has_an_earlier_state_open_keeps_what_they_see(
    cached: Index, wanted: list[Any]
) -> None:
    with connect(cached) as reader:
        add(cached, 300, 310)
        cache.refresh(cached)
        assert reader.run(COUNT)["n"].to_pylist() == [300]
        assert reader.run("FROM neighbors('a/0000', k := 5)").to_pylist() == wanted[1]
        path_of(cached).unlink()
        cache.refresh(cached)  # a new edition
        assert reader.run("FROM neighbors('a/0001', k := 5)").num_rows == 5
    assert len(list((cached.root / "hubdelta.deltas").iterdir())) == 1


def test_an_earlier_cache_put_back_is_brought_up_to_date_under_nobody(
    cached: Index, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copyfile(path_of(cached), kept)
    add(cached, 300, 3000)
    cache.refresh(cached)
    wanted = answers(cached)
    with connect(cached) as reader:
        kept.replace(path_of(cached))
        cache.refresh(cached)
        for name in ("a/0000", "a/2999"):  # whose rows the file ended before, for a moment
            reader.run("FROM neighbors(?, exact := true)", [name])
    assert answers(cached) == wanted
    np.testing.assert_array_equal(flat(cached), stored(cached))


def test_where_nothing_can_be_written_the_parquet_files_answer(
    cached: Index, wanted: list[Any]
) -> None:
    flat_file(cached).unlink()
    forbid_cache(cached)
    with connect(cached) as queries:
        assert queries.parquet is not None
        assert [queries.run(query).to_pylist() for query in QUESTIONS] == wanted
