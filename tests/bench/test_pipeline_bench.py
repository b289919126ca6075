"""Downloads and passes run beside each other: a run takes hardly longer than the slower of them."""

import json
from pathlib import Path

import pytest
from forking import run

pytestmark = pytest.mark.alone

_SCRIPT = Path(__file__).parents[2] / "bench" / "pipeline.py"


def test_a_run_takes_hardly_longer_than_its_slowest_stage(demo_base: Path) -> None:
    """The demo's adapters, through serve-hub with a throttle and a delay.

    One thread computes, so that the Hub and the downloads have a core as on another machine. There
    are enough adapters for the wait for the first one, half a second, to be a small part.
    """
    done = run(
        *("--base", demo_base, "--adapters", "36", "--speeds", "0.7,3", "--delay", "0.02"),
        *("--workers", "2", "--threads", "1", "--tries", "5", "--good", "1.15"),
        script=_SCRIPT,
        computing=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["bytes_over_needed"] <= 1.05
    assert figures["wall_over_max_stage"] <= 1.15, done.stdout
    bottlenecks = [timing["bottleneck"] for timing in figures["speeds"]]
    assert bottlenecks == ["download", "compute"], done.stdout
