"""Small indexes, ways to do without their cache, and an old DuckDB beside the installed one."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.script import OLDEST_DUCKDB

_BUILD = Path(__file__).parents[2] / ".build"

_ASK = """
import json, sys
import duckdb
script, before, queries = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")  # it would stand among the answers
if before:
    connection.execute(before)
connection.execute(open(script, encoding="utf-8").read())
to_arrow = "to_arrow_table" if hasattr(connection, "to_arrow_table") else "fetch_arrow_table"
answers = [getattr(connection.execute(query), to_arrow)().to_pylist() for query in queries]
print(json.dumps([duckdb.__version__, answers], default=str))
"""


@pytest.fixture
def fill(index: Index) -> Callable[..., Index]:
    """Write pairs of catalog row and vector, a file per table and base."""

    def write(*adapters: tuple[CatalogRow, VectorRow]) -> Index:
        for base in {listed.base for listed, _ in adapters}:
            mine = [pair for pair in adapters if pair[0].base == base]
            index.write([listed for listed, _ in mine], base=base)
            index.write([vector for _, vector in mine], base=base)
        return index

    return write


@pytest.fixture
def forbid_cache() -> Callable[[Index], None]:
    """Make an index a place where the cache can be neither locked nor written from now on."""

    def forbid(index: Index) -> None:
        lock = index.root / ".cache.lock"
        lock.unlink(missing_ok=True)
        lock.mkdir()

    return forbid


@pytest.fixture
def over_parquet(forbid_cache: Callable[[Index], None]) -> Iterator[Callable[[Index], Queries]]:
    """Connect to the Parquet files of an index, which can have a cache before and after that."""
    opened: list[Queries] = []

    def open_one(index: Index) -> Queries:
        kept = path_of(index).with_suffix(".kept")
        has_cache = path_of(index).exists()
        if has_cache:
            path_of(index).rename(kept)
        forbid_cache(index)
        opened.append(connect(index))
        (index.root / ".cache.lock").rmdir()
        if has_cache:
            kept.rename(path_of(index))
        assert opened[-1].parquet is not None
        return opened[-1]

    yield open_one
    for queries in opened:
        queries.close()


@lru_cache
def _duckdb_of(version: str) -> Path:
    """A folder with a DuckDB other than the installed one."""
    folder = _BUILD / f"duckdb-{version}"
    _BUILD.mkdir(exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            _install_duckdb(version, folder)
    return folder


def _install_duckdb(version: str, folder: Path) -> None:
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--target", str(unfinished), f"duckdb=={version}"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if pip.returncode:
        reason = (pip.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"DuckDB {version} could not be installed: {reason}")
    unfinished.rename(folder)


@pytest.fixture(params=[duckdb.__version__, OLDEST_DUCKDB])
def ask(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Run queries after a script in a plain DuckDB of another process."""
    wanted = request.param
    folder = None if wanted == duckdb.__version__ else _duckdb_of(wanted)

    def run(script: Path, queries: Sequence[str], *, before: str = "") -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", _ASK],
            input=json.dumps([str(script), before, list(queries)]),
            env={"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"} if folder else {},
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        version, answers = json.loads(done.stdout)
        assert version == wanted
        return list(answers)

    return run
