"""What an index run decides to do."""

from datetime import UTC, datetime, timedelta

import pytest
from rows import catalog_row, failure_row, vector_row

from hubdelta.indexer.pipeline.plan import BEYOND_LIMIT, FULL_FINETUNE, make_plan
from hubdelta.schemas.errors import Reason
from hubdelta.schemas.index import Index

NOW = datetime(2026, 11, 21, tzinfo=UTC)
BASE = "org/base"


@pytest.fixture
def index(tmp_path):
    return Index.create(tmp_path / "index")


def plan(index, **options):
    made = make_plan(index, base=BASE, recipe_id="recipe", now=NOW, **options)
    return [pending.row.repo_id for pending in made.pending], dict(made.skipped), made


def test_what_has_a_vector_of_this_recipe_is_done(index):
    index.write([catalog_row(repo_id="a/done"), catalog_row(repo_id="a/other-recipe")], base=BASE)
    index.write(
        [
            vector_row(repo_id="a/done", recipe_id="recipe"),
            vector_row(repo_id="a/other-recipe", recipe_id="older"),
        ],
        base=BASE,
    )
    assert plan(index)[:2] == (["a/other-recipe"], {"already embedded": 1})


def test_a_vector_of_what_turns_out_to_belong_to_another_base_is_not_enough(index):
    """So that the failure that says so takes its place."""
    index.write([catalog_row(repo_id="a/other", canonical_base="org/else")], base=BASE)
    index.write([vector_row(repo_id="a/other", recipe_id="recipe")], base=BASE)
    assert plan(index)[0] == ["a/other"]


def test_a_new_commit_is_a_new_adapter(index):
    index.write([catalog_row(revision="1" * 40, crawled_at=NOW - timedelta(days=1))], base=BASE)
    index.write([vector_row(revision="1" * 40)], base=BASE)
    index.write([catalog_row(revision="2" * 40, crawled_at=NOW)], base=BASE)
    (pending,) = plan(index)[2].pending
    assert pending.key.revision == "2" * 40


def test_failures_wait_until_they_are_due(index):
    index.write([catalog_row(repo_id=f"a/{n}") for n in ("never", "later", "now")], base=BASE)
    index.write(
        [
            failure_row(repo_id="a/never", reason=Reason.CORRUPT, due_at=None),
            failure_row(repo_id="a/later", reason=Reason.GATED, due_at=NOW + timedelta(hours=1)),
            failure_row(repo_id="a/now", reason=Reason.NETWORK, due_at=NOW, attempt=3),
        ],
        base=BASE,
    )
    names, skipped, made = plan(index)
    assert names == ["a/now"]
    assert made.pending[0].attempt == 4
    assert skipped == {"failed before, not due": 2}
    assert sorted(plan(index, retry_failed=True)[0]) == ["a/later", "a/never", "a/now"]


def test_what_has_vanished_or_is_no_adapter_is_left_alone(index):
    index.write(
        [
            catalog_row(repo_id="a/gone", vanished_at=NOW),
            catalog_row(repo_id="a/mirror", kind="mirror"),
            catalog_row(repo_id="a/model", kind="full"),
        ],
        base=BASE,
    )
    names, skipped, _ = plan(index)
    assert names == []
    assert skipped == {"vanished": 1, FULL_FINETUNE: 1}
    assert plan(index, kinds=("adapter", "full"))[0] == ["a/model"]


def test_the_most_downloaded_come_first_and_the_limit_is_kept(index):
    index.write([catalog_row(repo_id=f"a/{n}", downloads=n) for n in (5, 50, None, 7)], base=BASE)
    assert plan(index)[0] == ["a/50", "a/7", "a/5", "a/None"]
    assert plan(index, limit=1)[:2] == (["a/50"], {BEYOND_LIMIT: 3})


def test_a_named_adapter_is_tried_whatever_happened_before(index):
    row = catalog_row()
    index.write([row, catalog_row(repo_id="a/unasked")], base=BASE)
    index.write([failure_row(reason=Reason.CORRUPT, due_at=None)], base=BASE)
    assert plan(index, only=[row])[0] == ["a/b"]


@pytest.mark.parametrize("reason", Reason)
def test_only_reasons_that_can_heal_come_due_again_with_growing_pauses(reason):
    pauses = [reason.pause_after(attempt) for attempt in (1, 2, 3, 50)]
    if reason in {Reason.NETWORK, Reason.GATED, Reason.NOT_FOUND}:
        assert pauses[0] < pauses[1] < pauses[2] < pauses[3] == timedelta(days=30)
    else:
        assert pauses == [None] * 4


def test_what_failed_under_a_clock_that_was_ahead_is_tried_again(index):
    index.write([catalog_row()], base="org/base")
    ahead = NOW + timedelta(days=3000)
    index.write([failure_row(failed_at=ahead, due_at=ahead + timedelta(days=1))], base="org/base")
    assert [pending.attempt for pending in plan(index)[2].pending] == [2]
