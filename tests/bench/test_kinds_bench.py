"""The benchmark of kinds runs from its command line, on a tiny base."""

import json
from pathlib import Path

from forking import run

_SCRIPT = Path(__file__).parents[2] / "bench" / "kinds.py"


def test_each_kind_has_its_figures(tiny_base: Path) -> None:
    done = run(
        *("--base", tiny_base, "--only", "LoRA,HRA,MiSS", "--adapters", "3", "--one-by-one", "2"),
        script=_SCRIPT,
        computing=True,
    )
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])["kinds"]
    assert list(kinds) == ["LoRA", "HRA", "MiSS"]
    for figures in kinds.values():
        assert figures["stacked_per_second"] > 0
        assert figures["reference_per_second"] > 0
        assert figures["cosine_min"] > 0.9999
