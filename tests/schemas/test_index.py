"""The index as a directory of Parquet files."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hubdelta.schemas.arrow import VERSION_KEY, rows_of
from hubdelta.schemas.errors import (
    IndexBusyError,
    IndexWriteError,
    NewerIndexError,
    NoIndexError,
    UnreadableError,
)
from hubdelta.schemas.index import Index
from hubdelta.schemas.layout import folder_of
from hubdelta.schemas.rows import FailureRow, RunRow

BASE = "org/base"


def failure(**changes):
    values = {
        "base": BASE,
        "repo_id": "a/b",
        "subfolder": "",
        "revision": "0" * 40,
        "reason": "gated",
        "message": "m",
        "attempt": 1,
        "failed_at": datetime(2026, 11, 21, tzinfo=UTC),
        "due_at": None,
        "run_id": "r",
    }
    return FailureRow(**(values | changes))


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index")


def test_what_is_written_is_read_for_its_base_alone(index):
    index.write([failure()], base=BASE)
    index.write([failure(base="org/other", repo_id="c/d")], base="org/other")
    assert rows_of(index.read(FailureRow, base=BASE), FailureRow) == [failure()]


def test_an_empty_index_reads_as_empty_tables(index):
    assert len(index.read(FailureRow, base=BASE)) == 0
    assert index.files(RunRow)


def test_no_index_says_how_to_make_one(tmp_path):
    with pytest.raises(NoIndexError, match="no index at"):
        Index.open(tmp_path)


def test_a_newer_format_is_refused(index):
    table = pa.table({"base": [BASE]}).replace_schema_metadata({VERSION_KEY: b"99"})
    pq.write_table(table, index.root / "failures" / "schema-v99.parquet")
    with pytest.raises(NewerIndexError, match="newer hubdelta"):
        Index.open(index.root)


def test_a_file_of_an_older_version_gets_the_columns_it_lacks(index):
    index.write([failure()], base=BASE)
    (path,) = folder_of(index.root, FailureRow, BASE).iterdir()
    pq.write_table(pq.read_table(path).drop_columns(["due_at", "message"]), path)
    (row,) = index.read(FailureRow, base=BASE).to_pylist()
    assert row["message"] is None
    assert row["repo_id"] == "a/b"


def test_a_damaged_file_is_named_and_the_others_are_read(index, caplog):
    index.write([failure()], base=BASE)
    damaged = index.write([failure(repo_id="c/d")], base=BASE)
    damaged.write_bytes(damaged.read_bytes()[:100])
    rows = rows_of(index.read(FailureRow, base=BASE), FailureRow)
    assert [row.repo_id for row in rows] == ["a/b"]
    assert damaged not in index.files(FailureRow)
    assert str(damaged) in caplog.text


def test_a_file_that_cannot_be_opened_is_an_error_and_no_damage(index):
    path = index.write([failure()], base=BASE)
    kept = path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.name)  # a loop, which even the superuser cannot follow
    with pytest.raises(UnreadableError, match="cannot read the file"):
        index.read(FailureRow, base=BASE)
    kept.replace(path)
    assert len(index.read(FailureRow, base=BASE)) == 1


def test_a_folder_that_cannot_be_listed_does_not_count_as_empty(index, monkeypatch):
    folder = index.write([failure()], base=BASE).parent
    listed = os.scandir

    def refused(place):
        if os.fspath(place) == os.fspath(folder):
            raise PermissionError(13, "Permission denied", os.fspath(place))
        return listed(place)

    monkeypatch.setattr(os, "scandir", refused)
    for look in (
        lambda: index.read(FailureRow, base=BASE),
        lambda: index.files(FailureRow),
        lambda: index.has_damage(FailureRow, base=BASE),
    ):
        with pytest.raises(UnreadableError, match="no permission to read the folder"):
            look()


def test_no_space_is_an_error_in_a_line_and_leaves_nothing_behind(index, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(IndexWriteError, match="no disk space"):
            Index(small).write(
                [failure(repo_id=f"a/{n * 7919 % 9973}" * 9) for n in range(9000)], base=BASE
            )
        assert not [path for path in small.rglob("*") if path.is_file()]
    finally:
        subprocess.run(["umount", small], check=True)


HOLD = """
import sys, time
from pathlib import Path
from hubdelta.schemas.index import Index
with Index(Path(sys.argv[1])).writing():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(index):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, index.root], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_leaves_and_says_so_and_a_killed_run_holds_nothing(index, holder):
    with pytest.raises(IndexBusyError, match="another run"), index.writing():
        pass
    holder.kill()
    holder.wait()
    with index.writing():
        pass


def test_what_a_killed_run_left_half_written_is_removed(index):
    leftover = index.root / "failures" / "x.parquet.tmp"
    leftover.write_bytes(b"half")
    with index.writing():
        assert not leftover.exists()


def test_a_script_that_a_killed_run_left_half_written_is_removed(index):
    leftover = index.root / "hubdelta.sql.0a1b2c3d.tmp"
    leftover.write_bytes(b"half")
    with index.writing():
        assert not leftover.exists()
