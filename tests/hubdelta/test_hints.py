"""The command line says which option helps; the rooms below, which Python users hear, never do."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forking import run
from rows import catalog_row, failure_row, vector_row

import hubdelta
from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.index import Index

ROOMS = ("schemas", "vectors", "crawler", "hub_server", "indexer", "sql", "clusters", "explorer")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    made = Index.create(tmp_path_factory.mktemp("hints") / "index")
    for base, adapter in (("org/base", "a/one"), ("org/other", "b/two")):
        made.write([catalog_row(base=base, repo_id=adapter, canonical_base=base)], base=base)
        made.write([vector_row(base=base, repo_id=adapter)], base=base)
    waiting = [
        catalog_row(repo_id="a/waiting"),
        catalog_row(repo_id="a/whole", kind="full"),
        catalog_row(repo_id="a/broken"),
    ]
    made.write(waiting, base="org/base")
    made.write([failure_row(repo_id="a/broken")], base="org/base")
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "ask", "says"),
    [
        (
            ["sql", "DROP VIEW adapters"],
            lambda opened: opened.sql("DROP VIEW adapters"),
            "; --unsafe allows everything",
        ),
        (
            ["sql", "FROM read_csv('x')"],
            lambda opened: opened.sql("FROM read_csv('x')"),
            "; --unsafe allows everything",
        ),
        (
            ["similar", "a/waiting"],
            lambda opened: opened.similar("a/waiting"),
            "; run `hubdelta index --base org/base`",
        ),
        (
            ["similar", "a/whole"],
            lambda opened: opened.within("a/whole"),
            "; run `hubdelta index --base org/base --relation finetune`",
        ),
        (
            ["similar", "a/broken"],
            lambda opened: opened.similar("a/broken"),
            "; `hubdelta status` says what to do",
        ),
        (["explore", "--text"], lambda opened: opened.vectors(), "; choose one with --base"),
    ],
)
def test_the_command_line_adds_what_python_users_are_not_told(
    arguments: list[str],
    ask: Callable[[hubdelta.OpenIndex], object],
    says: str,
    index: Index,
) -> None:
    done = run(*arguments, "--index", str(index.root))
    assert done.returncode in {1, 2}
    assert done.stderr.rstrip().endswith(says)
    with hubdelta.open_index(index.root) as opened, pytest.raises(HubdeltaError) as caught:
        ask(opened)
    assert done.stderr == f"error: {caught.value}{says}\n"


def test_a_place_without_an_index_and_a_busy_one_have_an_option(index: Index) -> None:
    nowhere, labels = index.root / "none", index.root.parent / "labels.csv"
    with pytest.raises(HubdeltaError) as caught:
        hubdelta.open_index(nowhere)
    assert str(caught.value) == f"no index at {nowhere}"
    said = run("status", "--index", str(nowhere)).stderr
    assert said.startswith(f"error: {caught.value}; make one with `hubdelta index --base ORG/NAME`")
    labels.write_text("adapter,label\na/one,law\n")
    with index.writing():
        said = run("label", str(labels), "--index", str(index.root)).stderr
    assert said.endswith("try again when it has ended; --wait waits for it\n")


@pytest.mark.parametrize("room", ROOMS)
def test_no_text_of_a_lower_room_names_an_option(room: str) -> None:
    options = re.compile(
        rf"(?<![\w-])({'|'.join(map(re.escape, command_line_options()))})(?![\w-])"
    )
    named = [
        f"{path.name}:{node.lineno}: {node.value}"
        for path in (Path(hubdelta.__file__).parents[1] / room).rglob("*.py")
        for node in texts(ast.parse(path.read_text()))
        if options.search(node.value)
    ]
    assert named == []


def command_line_options() -> set[str]:
    from hubdelta.cli import hubdelta as command_line

    return {
        option
        for name in command_line.list_commands(None)
        for parameter in command_line.get_command(None, name).params
        for option in parameter.opts
        if option.startswith("--")
    }


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """The strings of a module that are no docstrings."""
    documented = {
        id(statement.value) for statement in ast.walk(tree) if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documented
        ):
            yield node
