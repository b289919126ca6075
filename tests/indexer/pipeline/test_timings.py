"""Stages: how long each was busy or idle, and which one a run waits for."""

import time
from collections.abc import Callable

import pytest

from hubdelta.indexer.pipeline.timings import Stages


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock, which otherwise stands."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def move(seconds: float) -> None:
        nonlocal now
        now += seconds

    return move


def test_the_stage_that_was_busy_longest_is_the_bottleneck(wait: Callable[[float], None]) -> None:
    stages = Stages()
    assert stages.bottleneck is None
    with stages.at("download"):
        wait(2)
        with stages.at("compute"):
            wait(3)
    assert stages.bottleneck == "download"
    with stages.at("compute"):
        wait(4)
        assert stages.bottleneck == "compute", "also while it works"
    assert stages.seconds == 9
    assert stages.busy == {"download": 5, "compute": 7}
    assert stages.waited == {"download": 4, "compute": 2}


def test_a_stage_with_several_threads_counts_once(wait: Callable[[float], None]) -> None:
    stages = Stages()
    with stages.at("download"):
        wait(1)
        with stages.at("download"):
            wait(1)
        wait(1)
    assert stages.busy == {"download": 3}
