"""What a person is told of how far a run has come."""

from io import StringIO

from rich.console import Console
from rich.progress import Progress as Bars

from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.terminal.progress import _Bars, _Lately, _TimeLeft


def test_no_rate_is_shown_before_there_is_one():
    progress, lately = RunProgress(), _Lately()
    assert lately.describe(progress) == "starting"
    with progress.stages.at("load"):
        assert lately.describe(progress) == "mostly load"
    progress.received = lambda: 1_000_000
    assert "adapters/s" not in lately.describe(progress)
    assert "MB/s" in lately.describe(progress)
    progress.embedded = 3
    assert "adapters/s" in lately.describe(progress)


def test_no_time_left_is_shown_before_it_is_known():
    now = 0.0
    shown = StringIO()
    bars = Bars(_TimeLeft(), console=Console(file=shown, width=80), get_time=lambda: now)
    display, progress = _Bars(bars), RunProgress()
    display.planned(10)

    def time_left() -> str:
        return _TimeLeft().render(bars.tasks[0]).plain

    assert time_left() == ""
    for second in (1, 2, 3):
        now = float(second)
        progress.embedded = second
        display.embedded(progress)
    assert time_left() == "0:00:07"
