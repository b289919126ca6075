"""The pipeline's benchmark runs from its command line, and fetches nothing that it does not need.

That its stages overlap is shown without a clock in tests/indexer/pipeline/test_overlap.py.
"""

import json
from pathlib import Path

from forking import run

_SCRIPT = Path(__file__).parents[2] / "bench" / "pipeline.py"


def test_the_pipeline_is_timed_and_fetches_only_what_it_needs(demo_base: Path) -> None:
    done = run(
        *("--base", demo_base, "--adapters", "2", "--speeds", "4", "--workers", "2"),
        *("--threads", "1", "--precision", "fp32"),
        script=_SCRIPT,
        computing=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert 1 <= figures["bytes_over_needed"] <= 1.05
    assert len(figures["speeds"]) == 1
    for timing in figures["speeds"]:
        assert timing["adapters_per_second"] > 0
        assert timing["wall_over_max_stage"] > 0
