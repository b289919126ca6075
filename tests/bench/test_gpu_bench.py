"""The GPU benchmark runs from its command line; a tiny model on the CPU stands in for the GPU."""

import json
import subprocess
from pathlib import Path

import forking
import pytest
import torch

_SCRIPT = Path(__file__).parents[2] / "bench" / "gpu.py"


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return forking.run(*arguments, script=_SCRIPT, computing=True)


def test_every_section_leaves_its_figures(tmp_path: Path) -> None:
    done = _run(
        *("--size", "tiny", "--device", "cpu", "--seconds", "0.05", "--call", "8", "--sets", "4"),
        *("--out", str(tmp_path)),
    )

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["errors"] == {}
    assert {
        (run["engine"], run["precision"], run["pool"], run["source"]) for run in report["runs"]
    } == {
        ("stacked", "fp32", "LoRA", "memory"),
        ("stacked", "fp16", "LoRA", "memory"),
        ("stacked", "bf16", "LoRA", "memory"),
        ("stacked", "auto", "LoRA", "memory"),
        ("stacked", "auto", "mixed ranks", "memory"),
        ("stacked", "auto", "DoRA", "memory"),
        ("stacked", "auto", "LoRA", "disk"),
        ("reference", "fp32", "LoRA", "memory"),
        ("published", "stored", "LoRA", "memory"),
    }
    for run in report["runs"]:
        assert run["adapters_per_second"] > 0
        assert 0 < run["share_of_roofline"] < 1
        assert run["cosine_min"] > (0.9999 if run["precision"] != "bf16" else 0.99)
    assert 0.1 < report["settings"]["delta_over_base"] < 0.5
    assert len((tmp_path / "gpu.md").read_text().splitlines()) > len(report["runs"])

    last = json.loads(done.stdout.splitlines()[-1])
    assert last == report["summary"]
    assert last["speedup_over_published"] > 0
    assert last["answered_in"] == {"fp32": 8}


def test_a_section_that_breaks_is_noted_and_the_others_run(tmp_path: Path) -> None:
    done = _run(  # three sets cannot have four ranks, so there are no adapters
        *("--size", "tiny", "--device", "cpu", "--sets", "3", "--out", str(tmp_path)),
    )

    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["errors"]["base and adapters"].startswith("ValueError: 3 sets")
    assert report["matrix_rates"]["fp32"] > 0
    assert json.loads(done.stdout.splitlines()[-1])["adapters_per_second"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = _run("--out", str(tmp_path))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "bench/gpu.py: there is no CUDA device here\n"
