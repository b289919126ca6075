"""What commands print: on terminals of any width, through pagers, into pipes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forking import run
from rows import catalog_row, vector_row
from terminal import plain, show

from hubdelta.jobs.labels import set_labels
from hubdelta.schemas.index import Index

LONG = "a-person-with-a-long-name/an-adapter-with-a-name-of-seventy-letters-or-so-v2"

COMMANDS = [
    ["similar", "org/adapter-00", "-k", "30"],
    ["domains"],
    ["domains", "--evidence"],
    ["domains", "--distance", "0.25"],
    ["status"],
    ["compare", "org/adapter-00", "org/adapter-01"],
    ["label", "--suggest"],
    ["sql", "FROM adapters LIMIT 3"],
    ["sql", "SELECT adapter, signal FROM adapters"],
]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Forty adapters in a fan, one with a long name, some with datasets."""
    made = Index.create(tmp_path_factory.mktemp("screen") / "index")
    names = [f"org/adapter-{n:02}" for n in range(39)] + [LONG]
    made.write(
        [
            catalog_row(
                repo_id=name,
                downloads=1000 * n,
                license="apache-2.0",
                datasets=[f"some-lab/data-set-number-{n % 3}"],
            )
            for n, name in enumerate(names)
        ],
        base="org/base",
    )
    made.write(
        [
            vector_row(
                repo_id=name,
                delta=np.array([np.cos(n / 50), np.sin(n / 50)], np.float32),
                signal=1234.5,
            )
            for n, name in enumerate(names)
        ],
        base="org/base",
    )
    set_labels(made, {"org/adapter-01": "law"})
    return made


def piped(index: Index, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, **({"HUBDELTA_INDEX": str(index.root)} | environment))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(index: Index, command: list[str], columns: int) -> None:
    shown = show(*command, columns=columns, HUBDELTA_INDEX=str(index.root))
    lines = plain(shown)
    assert max(map(len, lines)) <= columns
    assert len(lines) > 2


@pytest.mark.slow
def test_columns_takes_the_place_of_the_terminals_width(index: Index) -> None:
    shown = show("status", columns=200, COLUMNS="60", HUBDELTA_INDEX=str(index.root))
    assert max(map(len, plain(shown))) <= 60


def test_a_narrow_terminal_shows_less_and_says_so(index: Index) -> None:
    arguments = ["similar", "org/adapter-00", "-k", "5"]
    wide = plain(show(*arguments, columns=120, HUBDELTA_INDEX=str(index.root)))
    assert wide[0].split() == ["adapter", "distance", "signal", "downloads", "license", "datasets"]
    assert wide[-1] == "5 adapters"
    narrow = plain(show(*arguments, columns=40, HUBDELTA_INDEX=str(index.root)))
    assert narrow[0].split() == ["adapter", "distance", "signal"]
    last = " ".join(narrow[narrow.index("5 adapters; datasets, license,") :])
    assert last == "5 adapters; datasets, license, downloads: in a wider terminal, or with --json"


@pytest.mark.slow
def test_distances_and_counts_are_written_alike_everywhere(index: Index) -> None:
    at = {"columns": 120, "HUBDELTA_INDEX": str(index.root)}
    first = plain(show("similar", "org/adapter-00", "-k", "1", **at))[2].split()
    assert first[:4] == ["org/adapter-01", "0.0002", "1,234", "1,000"]
    compared = plain(show("compare", "org/adapter-00", "org/adapter-01", **at))
    assert compared[0].startswith("distance 0.0002, cosine similarity 0.9998")
    assert ["signal", "1,234", "1,234"] in [line.split() for line in compared]
    asked = show("sql", "SELECT distance, downloads FROM neighbors('org/adapter-00', k := 1)", **at)
    assert plain(asked)[2].split() == ["0.0002", "1,000"]


def test_into_a_pipe_go_whole_values_between_tabs_and_nothing_else(index: Index) -> None:
    done = piped(index, "similar", LONG, "-k", "2", COLUMNS="40")
    assert done.returncode == 0, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header == "adapter\tdistance\tsignal\tdownloads\tlicense\tdatasets"
    assert rows == [
        "org/adapter-38\t0.0002\t1234.5\t38000\tapache-2.0\tsome-lab/data-set-number-2",
        "org/adapter-37\t0.0008\t1234.5\t37000\tapache-2.0\tsome-lab/data-set-number-1",
    ]
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_pipe_gets_no_colors_and_no_trailing_spaces(index: Index, command: list[str]) -> None:
    done = piped(index, *command)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.endswith(" ")]


def test_what_a_person_needs_to_know_does_not_mix_with_piped_rows(index: Index) -> None:
    done = piped(index, "domains", "--min-size", "50")
    assert done.stdout == ""
    assert done.stderr == (
        "no domain of 50 or more adapters; "
        "40 adapters in domains of fewer than 50 adapters not shown\n"
    )


class TestColor:
    @pytest.mark.slow
    def test_a_terminal_has_styles_and_colorless_ones_no_color(self, index: Index) -> None:
        at = {"HUBDELTA_INDEX": str(index.root)}
        assert "\x1b[1m" in show("status", **at)
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]", show("status", NO_COLOR="1", **at))
        assert "\x1b" not in show("status", TERM="dumb", **at)

    def test_force_color_asks_for_a_terminals_output_in_a_pipe(self, index: Index) -> None:
        done = piped(index, "similar", "org/adapter-00", FORCE_COLOR="1", COLUMNS="100")
        assert "\x1b[1m" in done.stdout
        assert "10 adapters" in done.stdout
        assert "\x1b" not in piped(index, "status", FORCE_COLOR="").stdout


class TestPager:
    @pytest.fixture
    def pager(self, tmp_path: Path) -> str:
        """Says that it was used, and how less would be."""
        script = tmp_path / "pager"
        script.write_text('#!/bin/sh\necho "PAGED $LESS"\ncat\n')
        script.chmod(0o755)
        return str(script)

    @pytest.mark.parametrize(
        ("arguments", "rows", "environment", "paged"),
        [
            ([], 20, {}, True),
            ([], 200, {}, False),
            (["--no-pager"], 20, {}, False),
            (["--json"], 20, {}, False),
            ([], 20, {"PAGER": "cat"}, False),
            ([], 20, {"PAGER": ""}, False),
            ([], 20, {"PAGER": "no-such-pager"}, False),
        ],
    )
    def test_what_is_longer_than_the_screen_is_paged(
        self,
        index: Index,
        pager: str,
        arguments: list[str],
        rows: int,
        environment: dict[str, str],
        paged: bool,
    ) -> None:
        shown = show(
            *("similar", "org/adapter-00", "-k", "30", *arguments),
            rows=rows,
            **({"HUBDELTA_INDEX": str(index.root), "PAGER": pager} | environment),
        )
        assert ("PAGED FRX" in shown) == paged
        assert "org/adapter-30" in shown

    def test_the_users_less_is_left_alone(self, index: Index, pager: str) -> None:
        shown = show(
            *("sql", "SELECT adapter FROM adapters"),
            rows=10,
            HUBDELTA_INDEX=str(index.root),
            PAGER=pager,
            LESS="-S",
        )
        assert "PAGED -S" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "hubdelta sql 'SELECT * FROM range(200000)' | head -1",
        "hubdelta sql 'FROM adapters' --json | head -1",
        "hubdelta sql 'FROM adapters' --format csv | head -1",
        "hubdelta status | true",
        "hubdelta --help | true",
    ],
)
def test_a_reader_that_leaves_is_no_error(index: Index, command: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("hubdelta", '"$PYTHON" -m hubdelta', 1)],
        env=os.environ | {"HUBDELTA_INDEX": str(index.root), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
