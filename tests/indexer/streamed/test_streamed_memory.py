"""However deep a model is, two of its layers are in memory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from deep_models import LAYER_PARAMETERS, write_llama

ROOM = 8 << 20
"""Bytes for all that is not layers: the modules without weights, activations, rows of embeddings
and what Python and torch allocate meanwhile. 5 MB were the most seen."""

LAYER = 4 * LAYER_PARAMETERS


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "models"
    shutil.rmtree(tmp_path / "models")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("dtype", "allocator"),
    [(torch.float32, "plain"), (torch.float32, "pool"), (torch.bfloat16, "pool")],
    ids=str,
)
def test_two_layers_whatever_the_depth(dtype: torch.dtype, allocator: str, models: Path) -> None:
    depths = (1, 6, 24)
    folders = [str(write_llama(models / str(depth), depth, dtype)) for depth in depths]
    script = Path(__file__).with_name("measure_memory.py")
    result = subprocess.run(
        [sys.executable, str(script), allocator, *folders],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    growths = [int(line) for line in result.stdout.split()]
    assert len(growths) == len(depths) - 1
    assert max(growths) < 2 * LAYER + ROOM
    assert max(growths) < depths[-1] * LAYER / 8
