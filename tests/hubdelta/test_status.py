"""`hubdelta status`: what there is of each base, what to do, and how large the index is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forking import run
from rows import catalog_row, failure_row, vector_row
from terminal import plain, show

from hubdelta.commands.status import _LOCAL_REMEDIES, _REMEDIES, _ago
from hubdelta.schemas.errors import Reason
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import RunRow
from hubdelta.sql.connection import connect
from hubdelta.sql.questions.status import _sizes, status

NOW = datetime.now(UTC)


def run_row(**changes: object) -> RunRow:
    known: dict[str, object] = {
        "run_id": "r",
        "kind": "crawl",
        "base": "org/base",
        "base_revision": None,
        "outcome": "done",
        "started_at": NOW - timedelta(hours=5.5),
        "seconds": 90.0,
        "requests": 3,
        "fetched_bytes": 0,
        "needed_bytes": 0,
        "busy": {},
        "waited": {},
        "counts": {"listed": 12345, "new": 4},
        "marks": {},
        "versions": {},
    }
    return RunRow(**(known | changes))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Two bases; adapters in every state, and two that were named by hand and not found."""
    made = Index.create(tmp_path_factory.mktemp("status") / "index")
    states = ["embedded", "waiting", "locked", "broken", "gone"]
    made.write(
        [
            catalog_row(repo_id=f"a/{name}", vanished_at=NOW if name == "gone" else None)
            for name in states
        ]
        + [catalog_row(repo_id="a/whole", kind="full")],
        base="org/base",
    )
    made.write([vector_row(repo_id="a/embedded")], base="org/base")
    due = NOW + timedelta(hours=30.5)
    made.write(
        [
            failure_row(repo_id="a/locked", reason="gated", due_at=due),
            failure_row(repo_id="a/broken", reason="corrupt", due_at=None),
            failure_row(repo_id="a/nobody", revision="", reason="not_found", due_at=NOW),
            failure_row(
                repo_id="a/nobody",
                revision="",
                reason="network",
                attempt=2,
                failed_at=NOW,
                due_at=NOW - timedelta(minutes=1),
            ),
            failure_row(repo_id="a/unseen", revision="", reason="not_found", due_at=due),
        ],
        base="org/base",
    )
    made.write([catalog_row(repo_id="b/one", base="org/second")], base="org/second")
    made.write([run_row(), run_row(run_id="s", base="org/misspelt", outcome="failed")])
    return made


def answer(index: Index, *arguments: str) -> dict[str, object]:
    done = run("status", "--json", *arguments, HUBDELTA_INDEX=str(index.root))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_each_adapter_is_counted_once_and_those_not_found_too(index: Index) -> None:
    first, second = answer(index)["bases"]
    assert first["base"] == "org/base"
    assert first["known"] == 8
    assert (first["embedded"], first["pending"], first["vanished"]) == (1, 2, 1)
    assert first["pending_finetunes"] == 1
    assert first["failed"] == {"corrupt": 1, "gated": 1, "network": 1, "not_found": 1}
    assert first["due"]["corrupt"] is None
    assert datetime.fromisoformat(first["due"]["gated"]) == NOW + timedelta(hours=30.5)
    assert (second["base"], second["known"], second["pending"]) == ("org/second", 1, 1)


@pytest.mark.slow
def test_a_base_that_no_run_could_find_is_none(index: Index) -> None:
    assert "org/misspelt" not in [base["base"] for base in answer(index)["bases"]]
    done = run("status", "--base", "org/misspelt", HUBDELTA_INDEX=str(index.root))
    assert done.returncode == 1
    assert done.stderr.startswith("error: the index has no base org/misspelt: it has org/base, org")


def test_a_person_sees_it_at_a_glance(index: Index) -> None:
    lines = plain(show("status", columns=100, HUBDELTA_INDEX=str(index.root)))
    assert lines[0].startswith(f"{index.root}: ")
    words = [line.split() for line in lines]
    header = ["base", "crawled", "known", "embedded", "pending", "failed", "vanished"]
    assert header in words
    assert ["org/base", "5", "h", "ago", "8", "1", "2", "4", "1"] in words
    assert ["org/second", "never", "1", "0", "1", "0", "0"] in words
    assert any("`hubdelta index --base org/" in line for line in lines)
    text = "\n".join(lines)
    assert "in 30 h" in text
    assert "next run" in text
    assert "when it changes" in text
    assert "ask for access on its page" in text
    assert "12,345 listed, 4 new" in text


@pytest.mark.slow
def test_local_folders_have_advice_of_their_own(tmp_path: Path) -> None:
    made = Index.create(tmp_path / "index")
    folders = ["/home/me/broken", "/home/me/empty"]
    made.write([catalog_row(repo_id=name) for name in ["a/broken", *folders]], base="org/base")
    made.write(
        [
            failure_row(repo_id="a/broken", reason="corrupt", due_at=None),
            failure_row(repo_id=folders[0], reason="corrupt", due_at=None),
            failure_row(repo_id=folders[1], reason="no_weights", due_at=None),
            failure_row(repo_id="/home/me/gone", revision="", reason="not_found", due_at=NOW),
        ],
        base="org/base",
    )
    (only,) = answer(made)["bases"]
    assert only["failed"] == {"corrupt": 2, "no_weights": 1, "not_found": 1}
    assert only["failed_locally"] == {"corrupt": 1, "no_weights": 1, "not_found": 1}
    lines = plain(show("status", columns=120, HUBDELTA_INDEX=str(made.root)))
    failed = [line.split(maxsplit=2) for line in lines if line.startswith(("corrupt", "no"))]
    said = {(what, count, rest.split("  ")[-1].strip()) for what, count, rest in failed}
    assert said == {
        ("corrupt", "1", _REMEDIES[Reason.CORRUPT]),
        ("corrupt", "1", f"local folder: {_LOCAL_REMEDIES[Reason.CORRUPT]}"),
        ("no_weights", "1", f"local folder: {_LOCAL_REMEDIES[Reason.NO_WEIGHTS]}"),
        ("not_found", "1", f"local folder: {_LOCAL_REMEDIES[Reason.NOT_FOUND]}"),
    }
    assert "author" not in "".join(_LOCAL_REMEDIES.values())
    assert "HF_TOKEN" not in _LOCAL_REMEDIES[Reason.NOT_FOUND]


def test_one_base_can_be_asked_for(index: Index) -> None:
    (only,) = answer(index, "--base", "https://huggingface.co/org/second/")["bases"]
    assert only["base"] == "org/second"


def test_parquet_and_cache_are_told_apart(index: Index) -> None:
    found = answer(index)
    parquet = [path.stat().st_size for path in index.root.rglob("*.parquet")]
    assert (found["files"], found["bytes"]) == (len(parquet), sum(parquet))
    derived = [*index.root.glob("hubdelta.duckdb*"), *index.root.glob("hubdelta.deltas/*")]
    cache = [path.stat().st_size for path in derived]
    assert found["cache_bytes"] == sum(cache) > 0


@pytest.mark.slow
def test_it_needs_no_linkage(tmp_path: Path) -> None:
    import duckdb

    made = Index.create(tmp_path / "index")
    made.write([vector_row(repo_id=f"a/{n}") for n in range(3)], base="org/base")
    answer(made)
    with duckdb.connect(made.root / "hubdelta.duckdb", read_only=True) as database:
        assert database.execute("SELECT linked FROM facts").fetchall() == [(False,)]


def test_an_empty_index_says_what_to_do(tmp_path: Path) -> None:
    made = Index.create(tmp_path / "index")
    lines = plain(show("status", HUBDELTA_INDEX=str(made.root)))
    assert "empty: run `hubdelta index --base ORG/NAME`" in lines


def test_there_is_advice_for_every_reason() -> None:
    assert set(_REMEDIES) == set(Reason)


@pytest.mark.parametrize(
    ("age", "shown"),
    [
        (None, "never"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(seconds=-2), "0 s ago"),
        (timedelta(days=-2954), "in the future (a wrong clock?)"),
    ],
)
def test_the_age_of_a_crawl_is_said_in_words(age: timedelta | None, shown: str) -> None:
    assert _ago(age) == shown


def test_a_crawl_under_a_clock_that_was_ahead_does_not_hide_later_ones(tmp_path: Path) -> None:
    made = Index.create(tmp_path / "index")
    made.write([run_row(run_id="ahead", started_at=NOW + timedelta(days=2954))])
    made.write([run_row(run_id="later")])
    with connect(made) as queries:
        found = status(queries)
    assert found.bases[0].last_crawl == NOW - timedelta(hours=5.5) + timedelta(seconds=90)
    assert found.runs["run_id"].to_pylist() == ["later", "ahead"]


def test_a_file_that_is_taken_away_after_it_was_listed_has_no_size(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"four")
    assert _sizes([there, tmp_path / "gone"]) == [4]
