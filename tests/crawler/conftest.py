"""A local Hub that serves small repositories, and the crawler's client of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import FaultyHub
from small_repos import BASE, Repos

from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.schemas.index import Index


@pytest.fixture
def repos(tmp_path: Path) -> Repos:
    repos = Repos(tmp_path / "hub")
    repos.place.mkdir()
    repos.model(BASE)
    return repos


@pytest.fixture
def served(repos: Repos) -> Iterator[FaultyHub]:
    with FaultyHub(repos.place) as served:
        yield served


@pytest.fixture
def settings(served: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> HubSettings:
    # Once a day huggingface_hub asks its HF_ENDPOINT which coding agents there are, for its user
    # agent; here that would be the real Hub, and counted.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    return HubSettings(
        endpoint=served.url, timeout=5.0, attempts=3, first_wait=0.01, longest_wait=0.02
    )


@pytest.fixture
def hub(settings: HubSettings) -> Iterator[Hub]:
    with Hub(settings) as hub:
        yield hub


@pytest.fixture
def small_pages(settings: HubSettings) -> Iterator[Hub]:
    """A client that requests two entries per page."""
    with Hub(replace(settings, page_size=2)) as hub:
        yield hub


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts that would have been made, in seconds; none is."""
    made: list[float] = []
    clock = SimpleNamespace(sleep=made.append)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("tenacity.nap.time", clock)
    return made
