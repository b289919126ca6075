"""The benchmark of domains scores what it is given: groups that are known, names that are known."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forking import run
from rows import catalog_row, vector_row

from hubdelta.demo.base import BASE_ID
from hubdelta.demo.pool import SINGLE
from hubdelta.demo.sources import DOMAINS
from hubdelta.schemas.index import Index

_SCRIPT = Path(__file__).parents[2] / "bench" / "domains.py"
_DATASETS = {
    "python": "somebody/data",  # nor do its adapters' names have a word that describes it
    "german": "somebody/english-german",
    "scripture": "somebody/verses-bible",
    "dictionary": "somebody/wordnet",
    "records": "somebody/json",
}


def _score(root: Path, directions: Mapping[str, Any]) -> dict[str, Any]:
    """The figures for the demo's adapters, with vectors in the directions of their domains."""
    random = np.random.default_rng(0)
    index = Index.create(root)
    keys = [
        {"base": BASE_ID, "repo_id": adapter.repo_id, "subfolder": "", "revision": "0" * 40}
        for adapter in SINGLE
    ]
    domains = [adapter.domains[0] for adapter in SINGLE]
    index.write(
        [
            catalog_row(**key, datasets=[_DATASETS[domain]])
            for key, domain in zip(keys, domains, strict=True)
        ],
        base=BASE_ID,
    )
    index.write(
        [
            vector_row(
                **key,
                delta=np.float32(directions[domain] + 0.01 * random.standard_normal(8)),
            )
            for key, domain in zip(keys, domains, strict=True)
        ],
        base=BASE_ID,
    )
    done = _run(root)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _run(root: Path) -> "subprocess.CompletedProcess[str]":
    return run("--index", root, script=_SCRIPT)


def test_domains_that_lie_apart_score_one_and_a_name_needs_a_true_word(tmp_path):
    figures = _score(tmp_path / "index", dict(zip(DOMAINS, np.eye(8), strict=False)))
    for way, found in figures["ways"].items():
        if way.startswith("domains"):
            assert found == {"adjusted_rand": 1.0, "groups": 5, "without_group": 0}, way
    assert set(figures["names"]) == set(DOMAINS)
    assert figures["share_of_names_right"] == pytest.approx(4 / 5)


def test_domains_that_lie_together_score_less(tmp_path):
    axes = dict(zip(DOMAINS, np.eye(8), strict=False))
    figures = _score(tmp_path / "index", axes | {"german": axes["scripture"]})
    found = figures["ways"]["domains at 0.25"]
    assert found["groups"] == 4
    # Of 105 pairs 15 are together in truth, 24 here, 15 in both; chance has 15 * 24 / 105 in both.
    chance = 15 * 24 / 105
    assert found["adjusted_rand"] == pytest.approx((15 - chance) / ((15 + 24) / 2 - chance))


def test_an_index_of_something_else_is_refused(tmp_path):
    Index.create(tmp_path / "index")
    done = _run(tmp_path / "index")
    assert done.returncode == 1
    assert "not the demo's index" in done.stderr
