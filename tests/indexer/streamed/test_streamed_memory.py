"""However deep a model is, two of its layers are in memory."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from deep_models import LAYER_PARAMETERS, write_llama

ROOM = 8 << 20
"""Bytes for all that is not layers: the modules without weights, activations, rows of embeddings
and what Python and torch allocate meanwhile. 5 MB were the most seen."""

LAYER = 4 * LAYER_PARAMETERS


CASES = [(torch.float32, "plain"), (torch.float32, "pool"), (torch.bfloat16, "pool")]
DEPTHS = (1, 6, 24)


@pytest.fixture(scope="module")
def growths(tmp_path_factory: pytest.TempPathFactory) -> Mapping[object, list[int]]:
    """By dtype and allocator: how far memory grew in the pass of each depth after the first."""
    models = tmp_path_factory.mktemp("models")
    folders = {
        dtype: [str(write_llama(models / f"{dtype} {depth}", depth, dtype)) for depth in DEPTHS]
        for dtype in dict(CASES)
    }
    asked = [[allocator, folders[dtype]] for dtype, allocator in CASES]
    script = Path(__file__).with_name("measure_memory.py")
    result = subprocess.run(
        [sys.executable, str(script), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    shutil.rmtree(models)
    assert result.returncode == 0, result.stderr
    return dict(zip(CASES, map(json.loads, result.stdout.splitlines()), strict=True))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("dtype", "allocator"), CASES, ids=str)
def test_two_layers_whatever_the_depth(
    dtype: torch.dtype, allocator: str, growths: Mapping[object, list[int]]
) -> None:
    grown = growths[dtype, allocator]
    assert len(grown) == len(DEPTHS) - 1
    assert max(grown) < 2 * LAYER + ROOM
    assert max(grown) < DEPTHS[-1] * LAYER / 8
