"""The benchmark of synthetic domains tells how well they are found, and how long a night takes."""

import json
from pathlib import Path

from forking import run

_SCRIPT = Path(__file__).parents[2] / "bench" / "synthetic_domains.py"


def test_it_scores_small_pools():
    done = run("--sizes", "30,300", "--width", "128", "--drawn", "900", script=_SCRIPT)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    scores = {(one["adapters"], one["spread"]): one for one in figures["pools"]}
    assert len(scores) == 6
    # Of a tight pool's domains nearly all are found; linkage joins many of them.
    assert scores[300, "tight"]["default"] > 0.9 > scores[300, "tight"]["linkage"]
    assert all(one["least"] <= one["default"] <= 1 for one in scores.values())
    # The bounds know the truth.
    assert all(one["linkage"] <= one["best_linkage"] <= 1 for one in scores.values())
    assert all(0.9 < one["true_directions"] <= 1 for one in scores.values())
    assert figures["night"]["new"] == 3
