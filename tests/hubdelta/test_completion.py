"""Completion: what a shell is offered at each word, how soon, and that the shells take it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forking import run
from rows import catalog_row, vector_row

from hubdelta.jobs.derived import refresh_cache
from hubdelta.schemas.index import Index

NAMES = ["org/one", "org/other", "org/three/step-10", "lab/two"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("completion") / "index")
    made.write(
        [
            catalog_row(repo_id=name.rsplit("/step", 1)[0], subfolder="step-10" * ("step" in name))
            for name in NAMES
        ]
        + [catalog_row(repo_id="org/evil", subfolder="$(touch here)")],
        base="org/base",
    )
    made.write([vector_row(repo_id="org/one")], base="org/base")
    made.write([catalog_row(repo_id="lab/four", base="lab/base-2")], base="lab/base-2")
    refresh_cache(made)
    return made


def offered(line: str, **environment: str) -> list[str]:
    """What bash is offered for the last word of a line, by Typer's protocol."""
    done = run(
        _HUBDELTA_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(line.split(" ")) - 1),
        **environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hubdelta sim", ["similar"]),
        ("hubdelta domains --dis", ["--distance"]),
        ("hubdelta sql --format p", ["parquet"]),
        ("hubdelta completion f", ["fish"]),
        ("hubdelta similar org/o", ["org/one", "org/other"]),
        ("hubdelta similar org/three", ["org/three/step-10"]),
        ("hubdelta compare lab/two org/on", ["org/one"]),
        ("hubdelta status --base l", ["lab/base-2"]),
        ("hubdelta index --base org", ["org/base"]),
        ("hubdelta similar ./", []),
        ("hubdelta domains --index somewh", []),
        ("hubdelta similar nobody", []),
    ],
)
def test_each_word_is_offered_what_can_stand_there(
    index: Index, line: str, words: list[str]
) -> None:
    assert offered(line, HUBDELTA_INDEX=str(index.root)) == words


def test_what_a_shell_would_run_is_never_offered(index: Index) -> None:
    assert offered("hubdelta similar org/e", HUBDELTA_INDEX=str(index.root)) == []


def test_the_index_named_before_is_asked(index: Index, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "none")
    line = f"hubdelta similar --index {index.root} org/on"
    assert offered(line, HUBDELTA_INDEX=nowhere) == ["org/one"]
    assert offered("hubdelta similar org/on", HUBDELTA_INDEX=nowhere) == []
    assert offered("hubdelta status --base org", HUBDELTA_INDEX=nowhere) == []
    assert not (tmp_path / "none").exists()


def test_a_damaged_cache_offers_nothing(index: Index, tmp_path: Path) -> None:
    copy = tmp_path / "index"
    shutil.copytree(index.root, copy)
    (copy / "hubdelta.duckdb").write_bytes(b"junk")
    assert offered("hubdelta similar org/on", HUBDELTA_INDEX=str(copy)) == []


def test_it_loads_nothing_that_takes_long(index: Index) -> None:
    """Seconds depend on the machine: what is loaded tells."""
    code = (
        "import sys; from hubdelta.cli import run; run([]); "
        "print(*({'pyarrow', 'numpy', 'rich', 'torch', 'filelock'} & set(sys.modules)), "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {
            "_HUBDELTA_COMPLETE": "complete_bash",
            "COMP_WORDS": "hubdelta similar org/on",
            "COMP_CWORD": "2",
            "HUBDELTA_INDEX": str(index.root),
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["org/one"]
    assert done.stderr.split() == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_reads_its_script(shell: str) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_HUBDELTA_COMPLETE" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    read = subprocess.run([shell, "-n"], input=done.stdout, capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")


def test_bash_completes_a_line(index: Index, tmp_path: Path) -> None:
    """As readline does: the function that the script registers fills COMPREPLY."""
    command = tmp_path / "hubdelta"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hubdelta "$@"\n')
    command.chmod(0o755)
    script = (
        "source <(hubdelta completion bash); COMP_WORDS=(hubdelta similar lab/t); COMP_CWORD=2; "
        '_hubdelta_completion hubdelta lab/t similar; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HUBDELTA_INDEX": str(index.root)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("lab/two", "")
