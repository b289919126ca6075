"""Crawls after crawls: what is written, what is asked for, and what a crawl may not forget."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults import Fault, FaultyHub
from small_repos import BASE, Repos

from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.crawl_summary import CrawlProgress, CrawlSummary
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.crawler.ledger import newest_rows
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import HubError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow, RunRow


def runs(index: Index) -> list[RunRow]:
    return sorted(rows_of(index.read(RunRow, base=BASE), RunRow), key=lambda run: run.started_at)


def written(index: Index) -> int:
    return len(index.read(CatalogRow, base=BASE))


def counts(summary: CrawlSummary) -> tuple[int, int, int, int, int]:
    return (
        summary.listed,
        summary.new,
        summary.changed,
        summary.vanished,
        summary.unchanged,
    )


def fill(repos: Repos, number: int = 7) -> list[str]:
    names = [f"org/a{i}" for i in range(number)]
    for name in names:
        repos.adapter(name)
    return names


def test_a_first_crawl_writes_every_adapter_and_its_run(
    index: Index, small_pages: Hub, repos: Repos, served: FaultyHub
) -> None:
    names = fill(repos)
    summary = crawl(index, small_pages, BASE, versions={"hubdelta": "1"})
    assert counts(summary) == (7, 7, 0, 0, 0)
    assert {repo_id for repo_id, _ in newest_rows(index, BASE)} == set(names)
    (run,) = runs(index)
    assert (run.run_id, run.kind, run.outcome) == (summary.run_id, "crawl", "done")
    assert run.counts == {"listed": 7, "new": 7, "changed": 0, "vanished": 0}
    assert run.requests == summary.requests == len(served.requests)
    assert run.versions == {"hubdelta": "1"}
    assert run.marks == {f"base_model:adapter:{BASE}": repos.now, "peft": repos.now}
    assert {row.run_id for row in newest_rows(index, BASE).values()} == {run.run_id}


def test_no_request_is_made_for_a_repository(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    fill(repos)
    crawl(index, hub, BASE)
    assert {record.path for record in served.requests} == {
        f"/api/models/{BASE}",
        "/api/models",
    }


def test_nothing_changed_costs_one_page_per_listing_and_writes_no_row(
    index: Index, settings: HubSettings, repos: Repos, served: FaultyHub
) -> None:
    hub = Hub(replace(settings, page_size=3))
    repos.model("q/base-1b-4bit", of=BASE, relation="quantized")
    repos.model("other/base")
    repos.adapter("org/contradicts", declared="other/base")
    fill(repos)
    crawl(index, hub, BASE)
    before, rows = len(served.requests), written(index)
    summary = crawl(index, hub, BASE)
    asked = served.requests[before:]
    filters = [value for record in asked for key, value in record.query if key == "filter"]
    assert sorted(filters) == [
        f"base_model:adapter:{BASE}",
        "base_model:adapter:q/base-1b-4bit",
        f"base_model:finetune:{BASE}",
        "base_model:finetune:q/base-1b-4bit",
        f"base_model:quantized:{BASE}",
        "peft",
    ]
    assert len(asked) == len(filters) + 1, "and one for the base"
    assert written(index) == rows
    assert (summary.new, summary.changed, summary.vanished) == (0, 0, 0)


def test_only_what_changed_is_written_again(index: Index, hub: Hub, repos: Repos) -> None:
    fill(repos)
    crawl(index, hub, BASE)
    rows = written(index)
    repos.adapter("org/a0", card={"datasets": ["gsm8k"]})
    repos.adapter("org/new")
    assert counts(crawl(index, hub, BASE)) == (4, 1, 1, 0, 2)  # two lie within the overlap
    assert written(index) == rows + 2
    assert newest_rows(index, BASE)["org/a0", ""].datasets == ["gsm8k"]


def test_the_walk_stops_below_the_mark_and_its_overlap(
    index: Index, small_pages: Hub, repos: Repos, served: FaultyHub
) -> None:
    fill(repos, 9)
    crawl(index, small_pages, BASE)
    repos.adapter("org/new")
    before = len(served.requests)
    crawl(index, small_pages, BASE, relations=("adapter",))
    pages = [r for r in served.requests[before:] if ("filter", "peft") in r.query]
    assert len(pages) == 2, "new, a8 | a7 (an hour below: overlap), a6: stop"


def test_popularity_counts_in_a_full_crawl_only(index: Index, hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    crawl(index, hub, BASE)
    repos.adapter("org/a", downloads=99, likes=9, lastModified=repos.now)
    assert crawl(index, hub, BASE).changed == 0
    assert crawl(index, hub, BASE, full=True).changed == 1
    assert newest_rows(index, BASE)["org/a", ""].downloads == 99


def test_a_full_crawl_marks_what_vanished_and_what_came_back(
    index: Index, hub: Hub, repos: Repos
) -> None:
    fill(repos)
    crawl(index, hub, BASE)
    shutil.rmtree(repos.place / "org/a3")
    assert crawl(index, hub, BASE).vanished == 0
    assert counts(crawl(index, hub, BASE, full=True)) == (6, 0, 0, 1, 6)
    assert newest_rows(index, BASE)["org/a3", ""].vanished_at is not None
    assert crawl(index, hub, BASE, full=True).vanished == 0, "said once"
    repos.adapter("org/a3")
    assert crawl(index, hub, BASE).changed == 1
    assert newest_rows(index, BASE)["org/a3", ""].vanished_at is None


NO_FILES = b'[{"id": "org/b1", "sha": "%s"}]' % (b"a" * 40)


@pytest.mark.parametrize(
    "body", [b"[]", b"[null, {}]", NO_FILES, b'[{"id": "org/a1", "sha": null}]']
)
def test_listings_that_come_out_short_make_nothing_vanish_that_is_there(
    body: bytes,
    index: Index,
    hub: Hub,
    repos: Repos,
    served: FaultyHub,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(25):
        repos.adapter(f"org/b{number}")
    crawl(index, hub, BASE)
    shutil.rmtree(repos.place / "org/b3")
    served.faults.add(Fault("/api/models", times=None, body=body))
    assert crawl(index, hub, BASE, full=True).vanished == 0
    assert f"the listings omit org/b0, which is on {served.url}" in caplog.text
    served.faults.clear()
    assert crawl(index, hub, BASE, full=True).vanished == 1


def test_a_few_in_no_listing_are_judged_one_by_one(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    fill(repos)
    repos.adapter("org/other")
    crawl(index, hub, BASE)
    shutil.rmtree(repos.place / "org/a3")
    repos.adapter("org/other", tag="meta/other", declared="meta/other", card={"library_name": "x"})
    served.faults.add(Fault("/api/models", times=None, body=b"[]"))
    crawl(index, hub, BASE, full=True)
    rows = newest_rows(index, BASE)
    gone = {name for (name, _), row in rows.items() if row.vanished_at is not None}
    assert gone == {"org/a3", "org/other"}


def test_a_vanished_mirror_is_not_asked_about_again(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.model("q/base-1b-4bit", of=BASE, relation="quantized")
    assert crawl(index, hub, BASE).mirrors == 1
    shutil.rmtree(repos.place / "q/base-1b-4bit")
    crawl(index, hub, BASE, full=True)
    before = len(served.requests)
    assert crawl(index, hub, BASE).mirrors == 0
    asked = served.requests[before:]
    assert not any("q/base-1b-4bit" in value for record in asked for _, value in record.query)


def test_what_was_not_asked_for_has_not_vanished(index: Index, hub: Hub, repos: Repos) -> None:
    repos.model("org/full", of=BASE)
    repos.adapter("org/a")
    crawl(index, hub, BASE)
    summary = crawl(index, hub, BASE, relations=("adapter",), full=True)
    assert summary.vanished == 0


def test_an_adapter_that_left_its_folder_has_vanished_from_there(
    index: Index, hub: Hub, repos: Repos
) -> None:
    folder = repos.adapter("org/a", folder="old/")
    crawl(index, hub, BASE)
    shutil.rmtree(folder)
    repos.adapter("org/a", folder="new/")
    assert counts(crawl(index, hub, BASE)) == (1, 1, 0, 1, 0)
    gone = {key: row.vanished_at is not None for key, row in newest_rows(index, BASE).items()}
    assert gone == {("org/a", "old"): True, ("org/a", "new"): False}


def test_a_limited_crawl_leaves_the_rest_to_the_next(
    index: Index, small_pages: Hub, repos: Repos
) -> None:
    names = fill(repos)
    assert crawl(index, small_pages, BASE, limit=3, full=True).listed == 3
    assert len(newest_rows(index, BASE)) == 3
    assert runs(index)[0].marks == {}
    summary = crawl(index, small_pages, BASE)
    assert (summary.new, summary.unchanged) == (4, 3)
    assert {repo_id for repo_id, _ in newest_rows(index, BASE)} == set(names)


def test_an_interrupted_crawl_keeps_what_it_saw_and_no_mark_beyond(
    index: Index, small_pages: Hub, repos: Repos
) -> None:
    names = fill(repos)

    def interrupt(progress: CrawlProgress) -> None:
        if progress.listed >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crawl(index, small_pages, BASE, on_page=interrupt)
    (run,) = runs(index)
    assert (run.outcome, run.marks) == ("interrupted", {})
    assert len(newest_rows(index, BASE)) == run.counts["new"] == 4
    assert crawl(index, small_pages, BASE).new == 3
    assert {repo_id for repo_id, _ in newest_rows(index, BASE)} == set(names)


def test_a_crawl_that_fails_on_a_deep_page_keeps_what_it_has(
    index: Index, small_pages: Hub, repos: Repos, served: FaultyHub, pauses: list[float]
) -> None:
    fill(repos)
    served.faults.add(Fault("/api/models", after=3, times=None, status=504))
    with pytest.raises(HubError, match="504"):
        crawl(index, small_pages, BASE)
    assert len(pauses) == small_pages.settings.attempts - 1
    (run,) = runs(index)
    assert (run.outcome, run.marks) == ("failed", {})
    kept = len(newest_rows(index, BASE))
    assert kept == run.counts["new"] > 0
    served.faults.clear()
    assert crawl(index, small_pages, BASE).new == 7 - kept


def test_listings_walked_to_their_end_keep_their_marks_when_a_later_one_fails(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub, pauses: list[float]
) -> None:
    fill(repos)
    served.faults.add(Fault("/api/models", after=2, times=None, status=504))  # the finetunes
    with pytest.raises(HubError):
        crawl(index, hub, BASE)
    assert runs(index)[0].marks == {f"base_model:adapter:{BASE}": repos.now}


@pytest.mark.parametrize("full", [False, True])
def test_the_listing_of_all_adapters_may_break_off(
    full: bool,
    index: Index,
    small_pages: Hub,
    repos: Repos,
    served: FaultyHub,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repos.adapter("org/gone")
    repos.adapter("org/stray", tag=None)
    crawl(index, small_pages, BASE)
    shutil.rmtree(repos.place / "org/gone")
    names = fill(repos)
    repos.adapter("org/late-stray", tag=None)
    # Quantized, four pages of adapters, finetunes, and the first page of all adapters go well.
    served.faults.add(Fault("/api/models", after=7, times=None, status=504))
    with caplog.at_level(logging.WARNING, "hubdelta"):
        summary = crawl(index, small_pages, BASE, full=full)
    assert (summary.incomplete, summary.new, summary.vanished) == (("peft",), 8, 0)
    *attempts, warning = [
        line[2] for line in caplog.record_tuples if line[0].startswith("hubdelta")
    ]
    assert len(attempts) == small_pages.settings.attempts - 1
    assert "504" in warning
    assert "the next crawl tries again" in warning
    assert "\n" not in warning
    run = runs(index)[-1]
    assert run.outcome == "done"
    assert set(run.marks) == {f"base_model:adapter:{BASE}"}
    served.faults.clear()
    assert crawl(index, small_pages, BASE).incomplete == ()
    rows = newest_rows(index, BASE)
    assert {name for name, _ in rows} == {*names, "org/gone", "org/stray", "org/late-stray"}


def test_the_listing_of_all_adapters_may_not_be_refused(
    index: Index, hub: Hub, served: FaultyHub
) -> None:
    served.faults.add(Fault("/api/models", after=3, times=None, status=400))
    with pytest.raises(HubError, match="400"):
        crawl(index, hub, BASE)
    assert runs(index)[0].outcome == "failed"


def test_a_full_crawl_that_fails_lets_nothing_vanish(
    index: Index, small_pages: Hub, repos: Repos, served: FaultyHub, pauses: list[float]
) -> None:
    fill(repos)
    crawl(index, small_pages, BASE)
    served.faults.add(Fault("/api/models", after=3, times=None, status=504))
    with pytest.raises(HubError):
        crawl(index, small_pages, BASE, full=True)
    assert all(row.vanished_at is None for row in newest_rows(index, BASE).values())


@pytest.mark.parametrize("event", ["changed", "deleted", "renamed"])
def test_repositories_that_move_between_pages_cost_no_others(
    event: str, index: Index, small_pages: Hub, repos: Repos, served: FaultyHub
) -> None:
    names = fill(repos)
    page = f"base_model:adapter:{BASE}"
    events: dict[str, Callable[[], object]] = {
        "changed": lambda: repos.adapter("org/a1", card={"datasets": ["new"]}),
        "deleted": lambda: shutil.rmtree(repos.place / "org/a1"),
        "renamed": lambda: (
            repos.adapter("org/renamed"),
            repos.add("org/a1", renamed_to="org/renamed"),
        ),
    }
    served.faults.add(Fault("/api/models", after=1, before_answer=events[event]))
    crawl(index, small_pages, BASE)
    crawl(index, small_pages, BASE)
    rows = newest_rows(index, BASE)
    assert page in runs(index)[-1].marks
    assert {name for name, _ in rows} >= set(names) - {"org/a1"}
    if event == "changed":
        assert rows["org/a1", ""].datasets == ["new"]
    elif event == "renamed":
        assert ("org/renamed", "") in rows


def test_what_changes_during_a_full_walk_has_not_vanished(
    index: Index, small_pages: Hub, repos: Repos, served: FaultyHub
) -> None:
    for number in range(7):
        repos.model(f"org/full{number}", of=BASE)
    crawl(index, small_pages, BASE)

    def move_up() -> None:
        repos.model("org/full0", of=BASE, lastModified=datetime.now(UTC))

    # The second page of the finetunes: full0 would have come on the last.
    served.faults.add(Fault("/api/models", after=3, before_answer=move_up))
    assert crawl(index, small_pages, BASE, full=True).vanished == 0
    row = newest_rows(index, BASE)["org/full0", ""]
    assert row.last_modified is not None
    assert row.last_modified > repos.now - timedelta(days=1)


def test_no_date_of_the_future_hides_what_comes_later(index: Index, hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a", lastModified="2999-01-01T00:00:00.000Z")
    crawl(index, hub, BASE)
    run = runs(index)[0]
    assert max(run.marks.values()) <= run.started_at


def test_a_base_without_adapters_is_no_error(index: Index, hub: Hub) -> None:
    assert counts(crawl(index, hub, BASE)) == (0, 0, 0, 0, 0)
    assert runs(index)[0].outcome == "done"


def test_progress_is_reported_per_page(index: Index, small_pages: Hub, repos: Repos) -> None:
    fill(repos, 5)
    seen: list[CrawlProgress] = []
    summary = crawl(index, small_pages, BASE, on_page=seen.append)
    assert [progress.requests for progress in seen] == sorted({p.requests for p in seen})
    assert seen[-1].requests == summary.requests
    assert seen[-1].listed == 5


def test_rows_named_by_hand_do_not_vanish(index: Index, hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    crawl(index, hub, BASE)
    (row,) = newest_rows(index, BASE).values()
    index.write([replace(row, repo_id="org/by-hand", evidence="named")], base=BASE)
    assert crawl(index, hub, BASE, full=True).vanished == 0


def test_a_crawl_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys, hubdelta.crawler.crawl, hubdelta.crawler.describe, "
        "hubdelta.crawler.downloads; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
