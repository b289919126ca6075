"""Small indexes, ways to do without their cache, and an old DuckDB beside the installed one."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pytest
from filelock import FileLock
from geometry import write_pairs
from random_pool import add, answers
from sharing import connect_over_parquet, copy_of, opened

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, VectorRow
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import Queries
from hubdelta.sql.script import OLDEST_DUCKDB

_BUILD = Path(__file__).parents[2] / ".build"

_ASK = """
import json, sys, traceback
import duckdb

def answers(script, before, queries):
    with duckdb.connect() as connection:
        # The bar would stand among the answers.
        connection.execute("SET enable_progress_bar = false")
        if before:
            connection.execute(before)
        connection.execute(open(script, encoding="utf-8").read())
        new = hasattr(connection, "to_arrow_table")
        to_arrow = "to_arrow_table" if new else "fetch_arrow_table"
        return [getattr(connection.execute(query), to_arrow)().to_pylist() for query in queries]

for line in sys.stdin:
    try:
        found = [duckdb.__version__, answers(*json.loads(line))]
    except Exception:
        found = [None, traceback.format_exc()]
    print(json.dumps(found, default=str), flush=True)
"""


@pytest.fixture
def fill(index: Index) -> Callable[..., Index]:
    """Write pairs of catalog row and vector, a file per table and base."""

    def write(*adapters: tuple[CatalogRow, VectorRow]) -> Index:
        return write_pairs(index, *adapters)

    return write


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index without rows, to be read only."""
    index = Index.create(tmp_path_factory.mktemp("empty") / "index")
    cache.refresh(index)
    return index


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """300 random vectors and their cache, to be read only."""
    index = Index.create(tmp_path_factory.mktemp("pool") / "index")
    add(index, 0, 300)
    cache.refresh(index)
    return index


@pytest.fixture(scope="session")
def wanted(pool: Index) -> list[Any]:
    """What these vectors answer."""
    return answers(pool)


@pytest.fixture
def cached(pool: Index, tmp_path: Path) -> Index:
    """The same vectors with a cache of the test's own."""
    return copy_of(pool, tmp_path / "index")


@pytest.fixture(scope="module", autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    opened.close()


@pytest.fixture
def over_parquet() -> Iterator[Callable[[Index], Queries]]:
    """Connect to the Parquet files of an index, which can have a cache before and after that."""
    with ExitStack() as stack:
        yield lambda index: stack.enter_context(connect_over_parquet(index))


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


@pytest.fixture(scope="session")
def asked_of() -> Iterator[Callable[[str, str], str]]:
    """Ask a DuckDB of another process, by its version; each question gets a new connection."""
    with ExitStack() as stack:

        @lru_cache
        def process(version: str) -> subprocess.Popen[str]:
            folder = None if version == duckdb.__version__ else _duckdb_of(version)
            return stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _ASK],
                    env={"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"} if folder else {},
                    cwd="/",
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

        def ask_one(version: str, question: str) -> str:
            asked = process(version)
            assert asked.stdin is not None
            assert asked.stdout is not None
            asked.stdin.write(f"{question}\n")
            asked.stdin.flush()
            return asked.stdout.readline()

        yield ask_one


@pytest.fixture(params=[duckdb.__version__, OLDEST_DUCKDB])
def ask(
    request: pytest.FixtureRequest, asked_of: Callable[[str, str], str]
) -> Callable[..., list[Any]]:
    """Run queries after a script in a plain DuckDB of another process."""
    wanted = request.param

    def run(script: Path, queries: Sequence[str], *, before: str = "") -> list[Any]:
        question = json.dumps([str(script), before, list(queries)])
        version, answers = json.loads(asked_of(wanted, question))
        assert version == wanted, answers
        return list(answers)

    return run
