"""Labels: which files are taken, what is stored of them, and what they suggest."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from forking import run_bytes
from rows import catalog_row, vector_row

from hubdelta.demo.pool import MIXED, POOL, SINGLE
from hubdelta.jobs.labels import LabelSummary, read_labels, set_labels
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.index import Index
from hubdelta.sql.connection import connect

NAMES = ["a/one", "a/two", "a/three"]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index")
    index.write([catalog_row(repo_id=name) for name in NAMES], base="org/base")
    index.write([vector_row(repo_id=name) for name in NAMES], base="org/base")
    return index


def read(content: str | bytes) -> dict[str, str | None]:
    raw = content.encode() if isinstance(content, str) else content
    return read_labels(io.BytesIO(raw), "labels.csv")


def stored(index: Index) -> dict[str, str]:
    with connect(index) as queries:
        rows = queries.run("SELECT adapter, label FROM labels").to_pylist()
    return {row["adapter"]: row["label"] for row in rows}


def run(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run_bytes(*arguments, stdin=stdin, timeout=120)


def test_a_spreadsheets_file_is_read() -> None:
    text = (
        "\ufeffLabel,Adapter,note\r\n"
        '"math, hard",a/one,x\r\n'
        "\r\n"
        " legal \t texts , a/two/sub ,\r\n"
        ",a/three,\r\n"
        '"say ""hi""",a/four,"two\r\nlines"\r\n'
    )
    assert read(text) == {
        "a/one": "math, hard",
        "a/two/sub": "legal texts",
        "a/three": None,
        "a/four": 'say "hi"',
    }


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_are_separated_as_in_the_first_line(separator: str) -> None:
    text = 'adapter,note,label\na/one,"x, y",law\n'
    spreadsheet = text.replace('"x, y"', "x y").replace(",", separator)
    assert read(spreadsheet) == read(text) == {"a/one": "law"}


def test_a_local_folder_is_meant_by_its_absolute_path() -> None:
    assert read("adapter,label\n./gone/x,law\n") == {(Path.cwd() / "gone/x").as_posix(): "law"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: its columns must include adapter and label"),
        ("a/one,law\n", "line 1: its columns must include adapter and label, and are a/one, law"),
        ("name;label\na/one;law\n", "line 1: its columns must include .*, and are name;label"),
        (
            "adapter;label\na/one;law; tax\n",
            "line 2: .* put a cell that holds a semicolon in quotes",
        ),
        ("adapter,label\n", "holds no labels"),
        ("adapter,label\na/one,law, tax\n", "line 2: it has 3 cells, the first line has 2"),
        ("adapter,label\na/one\n", "line 2: it has 1 cell, the first line has 2"),
        ('adapter,label\na/one,"law\n', "unexpected end of data"),
        ('adapter,label\na/one,"law"x\n', "line 2: "),
        ("adapter,label\nnonsense,law\n", "line 2: 'nonsense' is not an adapter"),
        ("adapter,label\na/one@main,law\n", "omit @main"),
        ("adapter,label\na/one,law\na/one,tax\n", "line 3: a/one has a different label"),
        ("adapter,label\na/one,\x1b[31mred\n", "line 2: it contains control characters"),
        ("adapter,label\na/o\0ne,law\n", "line 2: it contains control characters"),
        ("adapter,label\n/a/\0b,law\n", "line 2: it contains control characters"),
        (f"adapter,label\na/one,{'x' * 101}\n", "at most 100 characters, this one 101"),
        (f"adapter,label\na/one,{'x' * 200_000}\n", "line 2: field larger than"),
        (b"adapter,label\na/one,\xff\xfe\n", "not UTF-8"),
        ("adapter,label\na/one,law\n".encode("utf-16"), "not UTF-8"),
        (bytes(range(256)) * 100, "not UTF-8|line 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(content)


@pytest.mark.slow
def test_labels_that_differ_in_case_only_are_one(index: Index) -> None:
    assert read("adapter,label\na/one,Law\na/two,law\na/three,LAW\n") == dict.fromkeys(NAMES, "Law")
    set_labels(index, {"a/one": "law", "a/two": "tax"})
    set_labels(index, {"a/two": "Law"})
    assert stored(index) == {"a/one": "Law", "a/two": "Law"}, "in the spelling that came last"
    assert set_labels(index, {"a/one": "Law", "a/two": "Law"}).unchanged == 2
    assert set_labels(index, {"a/one": "law"}).changed == 1
    assert stored(index) == {"a/one": "law", "a/two": "law"}


def test_a_file_of_many_lines_is_read() -> None:
    lines = "".join(f"org/adapter-{i},label {i % 7}\n" for i in range(100_000))
    assert len(read("adapter,label\n" + lines)) == 100_000


@pytest.mark.slow
def test_only_what_is_news_is_written(index: Index) -> None:
    first = set_labels(index, {"a/one": "law", "a/two": "tax", "a/three": None})
    assert first == LabelSummary(set=2, changed=0, unchanged=1, removed=0, unknown=[])
    assert set_labels(index, {"a/one": "law", "a/two": "tax"}).unchanged == 2
    assert len(list((index.root / "labels").glob("2*.parquet"))) == 1
    again = set_labels(index, {"a/one": None, "a/two": "poems", "a/three": "law"})
    assert again == LabelSummary(set=1, changed=1, unchanged=0, removed=1, unknown=[])
    assert stored(index) == {"a/two": "poems", "a/three": "law"}


def test_unknown_adapters_are_named_and_the_others_labelled(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    summary = set_labels(index, {"a/one": "law", "a/twoo": "tax", "zz/qq": "tax"})
    assert summary == LabelSummary(
        set=1, changed=0, unchanged=0, removed=0, unknown=["a/twoo", "zz/qq"]
    )
    assert stored(index) == {"a/one": "law"}
    assert "2 adapters are not in the index" in caplog.text
    assert "a/twoo (did you mean a/two?), zz/qq" in caplog.text


@pytest.mark.slow
def test_the_command_takes_a_file_or_standard_input(index: Index, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("adapter,label\na/one,law\na/none,law\n")
    done = run("label", file, "--index", index.root, "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout) == {
        "set": 1,
        "changed": 0,
        "unchanged": 0,
        "removed": 0,
        "unknown": ["a/none"],
    }
    done = run("label", "-", "--index", index.root, stdin=b"adapter,label\na/one,tax\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"1 changed\n"
    assert stored(index) == {"a/one": "tax"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "code"), [(["a/one"], 0), (["a/one", "a/none"], 3), (["a/none", "a/no"], 1)]
)
def test_the_exit_code_says_whether_the_index_has_the_adapters(
    names: list[str], code: int, index: Index
) -> None:
    lines = "".join(f"{name},law\n" for name in names)
    done = run("label", "-", "--index", index.root, stdin=f"adapter,label\n{lines}".encode())
    assert done.returncode == code, done.stderr
    assert stored(index) == ({} if code == 1 else {"a/one": "law"})


def test_nothing_is_written_where_a_line_is_wrong(index: Index, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("adapter,label\na/one,law\nnonsense,law\n")
    done = run("label", file, "--index", index.root)
    assert done.returncode == 2
    assert b"labels.csv, line 3: " in done.stderr
    assert stored(index) == {}


@pytest.mark.parametrize("arguments", [[], ["--suggest", __file__], ["/no/such/file"]])
def test_wrong_usage_is_said(arguments: list[str], index: Index) -> None:
    assert run("label", *arguments, "--index", index.root).returncode == 2


def test_labels_make_no_index(tmp_path: Path) -> None:
    done = run("label", "-", "--index", tmp_path / "none", stdin=b"adapter,label\na/b,c\n")
    assert done.returncode == 1
    assert b"no index at" in done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_run_that_holds_the_index_is_not_disturbed(index: Index) -> None:
    with index.writing():
        done = run("label", "-", "--index", index.root, stdin=b"adapter,label\na/one,law\n")
    assert done.returncode == 1
    assert b"another run is writing" in done.stderr
    assert stored(index) == {}


@pytest.fixture
def labelled_demo(demo, tmp_path):
    """A copy of the demo's index, in which every second adapter of one domain has its label."""
    copy = tmp_path / "index"
    shutil.copytree(demo.path, copy)
    index = Index.open(copy)
    known = {adapter.repo_id: adapter.domains[0] for adapter in SINGLE}
    set_labels(index, dict(sorted(known.items())[::2]))
    return index


def test_on_the_demo_suggestions_are_right_and_can_be_fed_back(labelled_demo):
    done = run("label", "--suggest", "--csv", "--index", labelled_demo.root)
    assert done.returncode == 0, done.stderr
    suggested = read(done.stdout)
    true = {adapter.repo_id: adapter.domains for adapter in POOL}
    assert len(suggested.keys() & true.keys()) >= 5
    for name, label in suggested.items():
        assert label in true.get(name, (label,)), name
    summary = set_labels(labelled_demo, suggested)
    assert summary.set == len(suggested)
    done = run("label", "--suggest", "--json", "--index", labelled_demo.root)
    assert not {row["adapter"] for row in json.loads(done.stdout)} & suggested.keys()


def test_on_the_demo_wrong_suggestions_are_less_confident(demo, tmp_path):
    """Where nobody has labeled a domain, its members are offered the labels of others."""
    copy = tmp_path / "index"
    shutil.copytree(demo.path, copy)
    index = Index.open(copy)
    known = {adapter.repo_id: adapter.domains[0] for adapter in SINGLE}
    half = dict(sorted(known.items())[::2])
    set_labels(index, {name: label for name, label in half.items() if label != "german"})
    true = {adapter.repo_id: adapter.domains for adapter in (*SINGLE, *MIXED)}
    with connect(index) as queries:
        rows = queries.run("FROM suggestions(NULL, distance := 0.6)").to_pylist()
    right, wrong = [], []
    for row in rows:
        if row["adapter"] in true:
            (right if row["label"] in true[row["adapter"]] else wrong).append(row["confidence"])
    assert len(right) >= 3
    assert len(wrong) >= 3
    assert sum(right) / len(right) > sum(wrong) / len(wrong)


def test_the_demos_cards_are_stored_and_its_domains_say_why(demo):
    with demo.queries() as queries:
        (cards,) = queries.run(
            "SELECT count(card) AS n, max(length(card)) AS longest FROM vectors"
        ).to_pylist()
    assert cards["n"] >= len(POOL)
    assert cards["longest"] <= 4000
    done = demo.run("domains", "--evidence")
    assert done.returncode == 0, done.stderr
    assert "versewright/kjv-verse-pairs: dataset of 2 of 6, 1 elsewhere" in done.stdout
    for domain in demo.ask("domains", "--evidence"):
        assert domain["name"] == ", ".join(term["term"] for term in domain["evidence"][:3])
