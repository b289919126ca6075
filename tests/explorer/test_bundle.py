"""The page that is shipped is the one that its sources build to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "explorer" / "web"


@pytest.mark.skipif(
    not (shutil.which("node") and (WEB / "node_modules" / "esbuild").is_dir()),
    reason="needs node, and npm ci in explorer/web",
)
def test_the_page_is_what_the_sources_build_to():
    done = subprocess.run(["node", "build.mjs", "--check"], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_page_carries_the_licenses_of_its_libraries():
    page = (WEB.parent / "page.html").read_text(encoding="utf-8")
    for name in ("d3-zoom", "d3-selection", "d3-quadtree"):
        assert name in page
    assert "Permission to use, copy, modify, and/or distribute this software" in page


def test_the_lock_file_names_no_host():
    assert "://" not in (WEB / "package-lock.json").read_text(encoding="utf-8")
