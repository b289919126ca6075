"""How a run ended, in a few lines for a person."""

from collections import Counter

import pytest

from hubdelta.indexer.pipeline.plan import BEYOND_LIMIT, FULL_FINETUNE
from hubdelta.jobs.index_summary import IndexSummary
from hubdelta.terminal.screen import Screen
from hubdelta.terminal.summaries import show_index_run


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("done", "done in 11.1 s"), ("interrupted", "interrupted after 11.1 s")],
)
def test_a_run_is_done_in_a_time_and_interrupted_after_one(
    outcome: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Screen() as screen:
        show_index_run(
            IndexSummary("org/base", "0" * 40, "r", outcome=outcome, seconds=11.1), screen
        )
    assert capsys.readouterr().out.splitlines()[0] == f"org/base at 000000000000: {said}"


def test_what_an_option_leaves_alone_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = Counter({FULL_FINETUNE: 2, BEYOND_LIMIT: 1, "vanished": 1})
    with Screen() as screen:
        show_index_run(
            IndexSummary("org/base", "0" * 40, "r", outcome="done", skipped=skipped), screen
        )
    said = "4 (2 full finetunes, without --relation finetune, 1 beyond --limit, 1 vanished)"
    assert said in capsys.readouterr().out
