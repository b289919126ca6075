"""The cache after any sequence of nights is the one that would be made from nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from geometry import adapter
from rows import catalog_row, failure_row, vector_row

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, Row, VectorRow
from hubdelta.sql.cache import cache
from hubdelta.sql.cache.cached_names import cached_names
from hubdelta.sql.cache.contents import path_of
from hubdelta.sql.connection import connect

pytestmark = pytest.mark.slow

START = datetime(2026, 5, 1, tzinfo=UTC)
HIDDEN = {"org/base": 6, "org/wide": 9}
RECIPES = ["one", "two"]

ANSWERS = [
    *("FROM adapters", "FROM vectors", "FROM comparable", "FROM catalog", "FROM failures"),
    *(
        f"SELECT base, domain, size, adapter, revision"
        f" FROM hubdelta.components(NULL, distance := {distance})"
        for distance in (0, 0.05, 0.2, 0.5, 0.9)
    ),
    "FROM duplicates(NULL, distance := 0.4)",
    "SELECT m.adapter AS target, n.* FROM adapters AS m, neighbors(m.adapter, k := 4) AS n",
]

# Places and slots tell in which order rows came; what they point at is compared.
TABLES = {
    "facts": "SELECT f.* EXCLUDE (edition) FROM cache.facts AS f",
    "files": "SELECT f.* EXCLUDE (modified) FROM cache.files AS f",  # a copy's is its own
    "present": "FROM cache.present_adapters",
    "sketched": "SELECT s.* EXCLUDE (place, slot, family), v.norm FROM cache.sketched AS s"
    " JOIN cache.stored_vectors AS v ON v.place = s.place AND v.slot = s.slot",
    "linked": "SELECT s.adapter, l.base, l.recipe_id FROM cache.linkage AS l"
    " JOIN cache.sketched AS s ON s.place = l.place",
    "vectors": "SELECT v.* EXCLUDE (place, slot) FROM cache.stored_vectors AS v",
    **{
        name: f"FROM cache.stored_{name}"
        for name in (
            *("catalog", "failures", "bases", "runs", "clusters", "labels", "maps", "spaces"),
        )
    },
}

VECTORS = "SELECT v.* EXCLUDE (card), rowid FROM cache.stored_vectors AS v"


class Nights:
    """An index that changes at random from night to night."""

    def __init__(self, index: Index, seed: int) -> None:
        self.index = index
        self.rng = np.random.default_rng(seed)
        self.night = 0
        self.states: dict[tuple[str, str, str], CatalogRow] = {}

    def pass_one(self) -> None:
        """Write the rows of one night."""
        self.night += 1
        for base in HIDDEN:
            self.write(base, [self.seen(base) for _ in range(self.rng.integers(1, 9))])
            self.write(base, [self.failed(key) for key in self.some(base, 2)])
            for part in (self.some(base, 6), self.some(base, 2)):
                self.write(base, [self.embedded(key) for key in part])

    def write(self, base: str, rows: list[Row]) -> None:
        self.index.write(rows, base=base)

    def some(self, base: str, n: int) -> list[tuple[str, str, str]]:
        known = [key for key in self.states if key[0] == base]
        chosen = {int(i) for i in self.rng.integers(len(known), size=self.rng.integers(0, n + 1))}
        return [known[i] for i in sorted(chosen)]

    def now(self) -> datetime:
        return START + timedelta(days=self.night, microseconds=int(self.rng.integers(10**9)))

    def seen(self, base: str) -> CatalogRow:
        """A new adapter, a new revision, other metadata, or one that vanished."""
        name = f"a/{self.rng.integers(12)}"
        key = (base, name, str(self.rng.choice(["", "x/y"], p=[0.8, 0.2])))
        known = self.states.get(key)
        same = known is not None and self.rng.random() < 0.5
        row = catalog_row(
            base=base,
            repo_id=key[1],
            subfolder=key[2],
            revision=known.revision if known and same else f"{self.rng.integers(3):040}",
            kind="mirror" if self.rng.random() < 0.05 else "adapter",
            downloads=int(self.rng.integers(100)),
            datasets=["d/" + str(self.rng.integers(3))],
            vanished_at=self.now() if self.rng.random() < 0.1 else None,
            crawled_at=self.now(),
        )
        self.states[key] = row
        return row

    def embedded(self, key: tuple[str, str, str]) -> VectorRow:
        """A vector of the present revision or another, perhaps one without direction."""
        delta = self.rng.normal(size=HIDDEN[key[0]]).astype(np.float32)
        delta[0] += self.rng.integers(4)
        if self.rng.random() < 0.2:
            delta[:] = self.rng.choice([0.0, np.nan, np.inf])
        return vector_row(
            **self.place(key),
            delta=delta,
            norm=float(self.rng.random()),
            signal=float(self.rng.choice([0.5, 9.0], p=[0.1, 0.9])),
            recipe_id=f"{key[0]}/{self.rng.choice(RECIPES)}",
            embedded_at=self.now(),
        )

    def failed(self, key: tuple[str, str, str]) -> Row:
        return failure_row(**self.place(key), failed_at=self.now())

    def place(self, key: tuple[str, str, str]) -> dict[str, str]:
        revision = self.states[key].revision
        if self.rng.random() < 0.15:
            revision = f"{self.rng.integers(3):040}"
        return {"base": key[0], "repo_id": key[1], "subfolder": key[2], "revision": revision}


def made_from_nothing(index: Index, place: Path) -> Index:
    """A copy of an index with a cache of its own."""
    shutil.copytree(index.root, place, ignore=shutil.ignore_patterns(f"{cache.CACHE_NAME}*"))
    other = Index.open(place)
    cache.refresh(other)
    return other


def rows_of(index: Index, queries: Iterable[str]) -> list[list[str]]:
    """Rows of queries over the tables of a cache, in no order."""
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        place = str(path_of(index)).replace("'", "''")
        database.execute(f"ATTACH '{place}' AS cache (READ_ONLY)")
        return [
            sorted(map(repr, database.execute(query).to_arrow_table().to_pylist()))
            for query in queries
        ]


def answers(index: Index) -> dict[str, list[str]]:
    with connect(index) as queries:
        assert queries.parquet is None
        return {query: sorted(map(repr, queries.run(query).to_pylist())) for query in ANSWERS}


@pytest.mark.parametrize("seed", range(3))
def test_a_cache_kept_over_many_nights_is_that_made_from_nothing(
    index: Index, tmp_path: Path, seed: int
) -> None:
    nights = Nights(index, seed)
    nights.pass_one()
    cache.refresh(index)
    inode = path_of(index).stat().st_ino
    for night in range(3):
        (before,) = rows_of(index, [VECTORS])
        nights.pass_one()
        cache.refresh(index)
        after, *tables = rows_of(index, [VECTORS, *TABLES.values()])
        assert set(before) <= set(after), "vectors stay where they are"
        other = made_from_nothing(index, tmp_path / str(night))
        for name, ours, theirs in zip(TABLES, tables, rows_of(other, TABLES.values()), strict=True):
            assert ours == theirs, name
        assert answers(index) == answers(other)
    assert path_of(index).stat().st_ino == inode, "it was never made anew"


def state(index: Index) -> tuple[int, int, int]:
    found = path_of(index).stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def test_a_night_without_news_touches_nothing(fill: Callable[..., Index]) -> None:
    index = fill(adapter("a/one", 0), adapter("a/two", 10))
    cache.refresh(index)
    before = state(index)
    cache.refresh(index)
    with connect(index) as queries:
        assert len(queries.run("FROM domains('org/base')")) == 1
    assert state(index) == before


def test_connecting_brings_rows_up_to_date_and_a_question_the_linkage(
    fill: Callable[..., Index],
) -> None:
    index = fill(adapter("a/one", 0), adapter("a/two", 10))
    for query in ("domains('org/base')", "pairs('org/base')", "duplicates(NULL, distance := 1)"):
        cache.remove(index)
        with connect(index) as queries:
            assert len(queries.run("FROM vectors")) == 2
            assert len(queries.run(f"FROM {query}")) == 1, query
    fill(adapter("b/one", 0, base="org/other"), adapter("b/two", 1, base="org/other"))
    with connect(index) as queries:
        assert len(queries.run("FROM domains('org/other')")) == 1, "a base that is new"


def test_where_only_the_linkage_is_missing_no_rows_are_read_again(
    fill: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ingest(*_: object) -> None:
        raise AssertionError

    index = fill(adapter("a/one", 0), adapter("a/two", 10))
    with connect(index) as queries:
        monkeypatch.setattr("hubdelta.sql.cache.ingest.ingest", ingest)
        assert len(queries.run("FROM pairs('org/base')")) == 1
        assert queries.parquet is None


@pytest.mark.parametrize("row_type", [CatalogRow, VectorRow])
def test_without_a_file_it_is_made_anew(fill: Callable[..., Index], row_type: type[Row]) -> None:
    index = fill(adapter("a/one", 0))
    fill(adapter("a/two", 10))
    cache.refresh(index)
    inode = path_of(index).stat().st_ino
    index.files(row_type)[-2].unlink()  # the last is the one without rows
    with connect(index) as queries:
        assert len(queries.run(f"FROM {row_type.table}")) == 1
    assert path_of(index).stat().st_ino != inode


def test_with_another_file_of_a_name_it_is_made_anew(
    fill: Callable[..., Index], index: Index
) -> None:
    fill(adapter("a/one", 0))
    cache.refresh(index)
    path = index.files(CatalogRow)[0]
    os.utime(path)
    before = state(index)
    cache.refresh(index)
    assert state(index) == before, "a file that is only younger is the same"
    index.write([catalog_row(repo_id=f"a/{name}") for name in "xyz"], base="org/base")
    index.files(CatalogRow)[1].replace(path)
    with connect(index) as queries:
        assert len(queries.run("FROM adapters")) == 3


@pytest.mark.parametrize("name", ["back\\slash", "br[ac]*?", "{a}'\"#%;~&$ b"])
def test_a_folder_of_any_name_has_a_cache(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index.create(tmp_path / name / "index")
    index.write([catalog_row()], base="org/base")
    for expected in (1, 2):
        index.write([vector_row(repo_id=f"a/{expected}")], base="org/base")
        with connect(index) as queries:
            assert queries.parquet is None
            rows = queries.run("SELECT count(*) AS n FROM vectors").to_pylist()
        assert rows == [{"n": expected}]
    assert cached_names(index.root, "a/", 10) == ["a/b"]
    assert not caplog.records
