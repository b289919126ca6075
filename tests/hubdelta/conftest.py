"""The demo's Hub, crawled and embedded once by the real commands over real HTTP."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults import FaultyHub
from forking import run

from hubdelta.demo.base import BASE_ID
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import Queries, connect


@dataclass(frozen=True)
class DemoIndex:
    """An index of the demo's Hub, and the Hub that it was made from."""

    path: Path
    hub: FaultyHub
    home: Path

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `hubdelta ARGUMENTS` as a user would, against this Hub and index."""
        own = {
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HUBDELTA_INDEX": str(self.path),
        }
        return run(*arguments, timeout=900, **(own | environment))

    def ask(self, *arguments: object) -> Any:
        """The JSON answer of a command that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def queries(self) -> Queries:
        """The index's SQL."""
        return connect(Index.open(self.path))


@pytest.fixture(scope="session")
def demo(demo_hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoIndex]:
    """The demo's index, after the nightly job."""
    folder = tmp_path_factory.mktemp("demo-index")
    with FaultyHub(demo_hub) as hub:
        made = DemoIndex(folder / "index", hub, folder / "home")
        # Which precision auto takes depends on the machine, and tests hold vectors to fp32.
        done = made.run("index", "--base", BASE_ID, "--precision", "fp32")
        assert done.returncode == 0, done.stderr
        yield made
