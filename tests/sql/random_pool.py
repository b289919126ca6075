"""An index of random vectors, and what it answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from rows import catalog_row, vector_row

from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import connect

COUNT = "SELECT count(*) AS n, sum(delta[1]) AS x FROM vectors"
QUESTIONS = [
    COUNT,
    "FROM neighbors('a/0000', k := 5)",
    "SELECT adapter, status, downloads FROM adapters ORDER BY adapter",
    "SELECT size, members FROM domains(NULL, distance := 0.5)",
]


def add(index: Index, start: int, stop: int, hidden: int = 64) -> None:
    """Embed the adapters a/start to a/stop, the last not among them."""
    rng = np.random.default_rng(start)
    names = [f"a/{i:04}" for i in range(start, stop)]
    index.write([catalog_row(repo_id=name) for name in names], base="org/base")
    index.write(
        [
            vector_row(repo_id=name, delta=rng.normal(size=hidden).astype(np.float32))
            for name in names
        ],
        base="org/base",
    )


def answers(index: Index) -> list[Any]:
    """What an index answers to the questions."""
    with connect(index) as queries:
        return [queries.run(query).to_pylist() for query in QUESTIONS]


def answers_without(index: Index, place: Path) -> list[Any]:
    """What a copy of the index answers that never had a cache."""
    shutil.copytree(index.root, place, ignore=shutil.ignore_patterns(f"{cache.CACHE_NAME}*"))
    copy = Index.open(place)
    cache.refresh(copy)
    return answers(copy)
