"""The benchmark of maps measures a real map, and its last line is one JSON object."""

import json
from pathlib import Path

from forking import run

_SCRIPT = Path(__file__).parents[2] / "bench" / "map.py"


def test_it_measures_a_small_map(tmp_path):
    done = run("--sizes", "120", "--width", "32", "--folder", tmp_path, script=_SCRIPT)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout.splitlines()[-1])["results"]
    assert (found["size"], found["method"], found["new"], found["moved"]) == (120, "tsne", 6, 0)
    assert found["trustworthiness"] > 0.9
    assert found["html_bytes"] > found["payload_bytes"] > 0
    assert found["peak_bytes"] > 0
    assert not list(tmp_path.iterdir())
