"""The benchmark of lookups runs from its command line, over vectors that lie as real ones do."""

import importlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from forking import run

_BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def geometry() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(_BENCH)
        yield importlib.import_module("delta_geometry")


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(*arguments, script=_BENCH / "query.py")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("bench") / "kept"
    done = _run(
        *("--sizes", "300", "--joins", "200", "--width", "256", "--queries", "5", "--cold", "1"),
        *("--added", "20", "--folder", str(folder)),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), folder


def test_each_size_has_its_figures(measured):
    (one,) = measured[0]["sizes"]
    assert one["size"] == 300
    assert 0 <= one["recall_at_10"] <= 1
    assert one["exact_recall_at_10"] == 1
    assert one["time_over_numpy"] == pytest.approx(one["warm_seconds"] / one["numpy_seconds"])
    assert one["cold_process_seconds"] > one["cold_seconds"] > 0
    assert one["refresh_seconds"] > one["refresh_nothing_seconds"] > 0
    assert one["link_seconds"] > 0
    assert one["parquet_bytes"] > 300 * 256 * 4 * 0.8  # zstd finds little in noise
    assert one["cache_bytes"] > 0


def test_joins_find_every_duplicate_that_numpy_finds(measured):
    joins = measured[0]["joins"]
    assert joins["duplicates"] > 0
    assert joins["duplicates_missed"] == 0
    assert 0 < joins["domains"] <= 200
    assert joins["link_seconds"] > 0


def test_an_index_that_is_kept_is_not_written_over(measured):
    _, folder = measured
    assert (folder / "lookup-300" / "vectors").is_dir()
    done = _run("--sizes", "300", "--joins", "0", "--width", "256", "--folder", str(folder))
    assert done.returncode == 1
    assert "exists" in done.stderr


def test_the_synthetic_deltas_lie_as_real_ones_do(geometry):
    block = geometry.SyntheticDeltas(3000, 2048).block(0, 3000)
    ours, real = asdict(geometry.mean_geometry(block, 30)), asdict(geometry.REAL)
    for name in ("within", "between", "between_spread", "to_common", "silhouette"):
        assert ours[name] == pytest.approx(real[name], abs=0.04), name
    for name in ("own_dimensions", "used_coordinates"):
        assert ours[name] == pytest.approx(real[name], rel=0.3), name


def test_the_measure_tells_other_geometries(geometry):
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 3)
    noise = geometry.measure(random.standard_normal((15, 2048)), labels)
    assert noise.within == pytest.approx(0, abs=0.05)
    assert noise.silhouette == pytest.approx(0, abs=0.05)
    assert noise.own_dimensions == pytest.approx(10, abs=0.5)
    assert noise.used_coordinates == pytest.approx(1 / 3, abs=0.02)  # Gaussian: E[x²]²/E[x⁴]

    apart = geometry.measure(np.eye(5)[labels] + 1e-3 * random.standard_normal((15, 5)), labels)
    assert apart.within == pytest.approx(1, abs=1e-4)
    assert apart.between == pytest.approx(0, abs=0.01)
    assert apart.silhouette == pytest.approx(1, abs=1e-4)
    assert apart.to_common == pytest.approx(5**-0.5, abs=0.01)


def test_a_seed_makes_the_same_deltas_and_another_others(geometry):
    def deltas(seed: int) -> Any:
        return geometry.SyntheticDeltas(100, 64, seed).block(64, 128).deltas

    np.testing.assert_array_equal(deltas(0), deltas(0))
    assert not np.array_equal(deltas(0), deltas(1))


def test_re_uploads_are_near_duplicates_of_their_original(geometry):
    block = geometry.SyntheticDeltas(2000, 512).block(0, 2000)
    units = block.deltas / np.linalg.norm(block.deltas, axis=1, keepdims=True)
    copies = np.flatnonzero(block.copies)
    assert 0.04 < len(copies) / 2000 < 0.12
    distances = 1 - np.sum(units[copies] * units[copies - 1], axis=1)
    assert distances.max() < 1e-3
    assert (distances < 1e-6).any()
    assert (distances > 1e-5).any()
