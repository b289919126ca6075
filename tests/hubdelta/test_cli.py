"""The command line: help, errors in a line, exit codes."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forking import run, run_bytes
from terminal import show

from hubdelta.cli import hubdelta
from hubdelta.cli import run as hubdelta_run

README = Path(__file__).parents[2] / "README.md"
FOLDER = Path(__file__).parent
COMMANDS = hubdelta.list_commands(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_is_in_the_readme(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert "Example" in done.stdout
    assert f"hubdelta {name}" in done.stdout.replace("Usage: ", "", 1).partition("Example")[2]
    command = hubdelta.get_command(None, name)
    assert len(command.help) > 40
    for option in command.params:
        if option.param_type_name == "option":
            assert option.help, option.name
    assert f"`hubdelta {name}" in README.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_text_as_it_is_written(name, capsys, monkeypatch):
    """Rich takes what stands in brackets for a style, and would swallow it."""
    monkeypatch.setenv("COLUMNS", "200")
    assert hubdelta_run([name, "--help"]) == 0
    shown = "".join(re.sub(r"[│╭╮╰╯─]", "", capsys.readouterr().out).split())
    module = importlib.import_module(f"hubdelta.commands.{name.replace('-', '_')}")
    for text in (getattr(module, "HELP", module.command.__doc__), module.EXAMPLES):
        assert "".join(text.split()) in shown
    for parameter in hubdelta.get_command(None, name).params:
        assert "".join((parameter.help or "").split()) in shown, parameter.name
    assert not re.search("<(bool|str|int|float|path|file)", shown, re.IGNORECASE)


@pytest.mark.parametrize(
    "command", ["index", "crawl", "domains", "status", "explore", "export --format npz --out x"]
)
def test_a_second_base_is_refused_instead_of_replacing_the_first(command, capsys):
    assert hubdelta_run([*command.split(), "--base", "org/one", "--base", "org/two"]) == 2
    said = capsys.readouterr().err
    assert "give one base, not org/one and org/two" in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("output", ["json", "csv", "parquet"])
def test_a_file_holds_the_answer_of_one_statement(output, tmp_path, capsys, monkeypatch):
    from hubdelta.schemas.index import Index

    Index.create(tmp_path / "index")
    monkeypatch.setenv("HUBDELTA_INDEX", str(tmp_path / "index"))
    assert hubdelta_run(["sql", "--format", output, "SELECT 1 AS a; SELECT 2 AS b"]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert "one statement" in answer.err
    assert hubdelta_run(["sql", "SELECT 1 AS a; SELECT 2 AS b"]) == 0
    assert capsys.readouterr().out.split() == ["a", "1", "b", "2"]


def test_relations_given_one_by_one_are_all_followed():
    command = hubdelta.get_command(None, "index")
    context = command.make_context(
        "index",
        ["--base", "org/one", "--relation", "finetune", "--relation", "adapter,finetune"],
    )
    assert context.params["relations"] == ["finetune", "adapter"]
    assert [str(base) for base in context.params["base"]] == ["org/one"]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["index", "--help"], ["sql", "SELECT 1"]])
def test_help_and_queries_never_import_torch(arguments, tmp_path):
    from hubdelta.schemas.index import Index

    Index.create(tmp_path / "index")
    code = (
        "import sys; from hubdelta.cli import run; "
        f"assert run({arguments!r}) == 0; "
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HUBDELTA_INDEX": str(tmp_path / "index")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such-command"], 2, "there is no command no-such-command: one of index, crawl"),
        (["stats"], 2, "did you mean status?\n"),
        (["similar"], 2, "error: missing argument 'ADAPTER'; see `hubdelta similar --help`"),
        (["similar", "a/b", "-k", "0"], 2, "'-k': it must be greater than or equal to 1"),
        (["similar", "https://huggingface.co/datasets/a/b"], 2, "not the page of a model"),
        (["domains", "--center"], 2, "--center needs a --distance"),
        (["domains", "--base", "x"], 2, "'x' is not a base model"),
        (["label", "--suggest", "--wait"], 2, "--wait means nothing with --suggest"),
        (["label", "--suggest", "--json", "--csv"], 2, "leave out one of the two"),
        (["label", __file__, "--csv"], 2, "--csv means nothing without --suggest"),
        (["label", __file__, "--min-confidence", "1"], 2, "--min-confidence means nothing"),
        (["sql", "SELECT 1", "--json", "--format", "csv"], 2, "leave out one of the two"),
        (["index", "--base", "a/b", "--no-crawl", "--full"], 2, "--full means nothing"),
        (["index", "--base", "a/b", "c/d", "--full"], 2, "--full means nothing"),
        (
            ["index", "--base", "a/b", "--device", "warp"],
            2,
            "no device 'warp': give auto, cpu, cuda",
        ),
        (["index", "--base", "a/b", "--precision", "tf32"], 2, "tf32 needs a GPU"),
        (["status", "--index", __file__], 2, f"{__file__} is a file: name a folder"),
        (["completion", "tcsh"], 2, "'SHELL': 'tcsh' is not one of"),
        (["similar", "a/b", "-k", "x"], 2, "'-k': it must be a valid integer"),
        (["domains", "--distance", "nan"], 2, "'--distance': it must be"),
        (["index", "--base", "a/b", "--disk-budget", "nan"], 2, "disk budget must be above 0 GB"),
        (["index", "--base", "a/b", "--engin", "stacked"], 2, "--engine"),
        (["explore", "--text", "--out", "x"], 2, "--out means nothing with --text"),
        (["explore", "--out", "-", "--json"], 2, "--json means nothing with --out -"),
        (["index"], 2, "--base"),
        (["index", "--base", "not a name"], 2, "org/name"),
        (["index", "--base", "a/b", "--engine", "warp"], 2, "warp"),
        (["index", "--base", "a/b", "--relation", "cousin"], 2, "cousin"),
        (["index", "--base", "a/b", "--limit", "0"], 2, "--limit"),
        (["index", "--base", "./nowhere"], 2, "no such folder"),
        (["index", "--base", "a/b", __file__], 2, f"is a file: name the folder, {FOLDER}"),
        (["index", "--base", __file__], 2, f"is a file: name the folder, {FOLDER}"),
        (["status"], 1, "no index at"),
        (["similar", "a/b"], 1, "no index at"),
        (["status", "--index", ""], 2, "empty"),
        (["index", "--base", "a/b/c"], 2, "not a base model"),
        (["crawl", "--base", "a/b@main"], 2, "no revision"),
        (["sql", "SELECT 1"], 1, "make one with `hubdelta index --base ORG/NAME`, or name another"),
        (["sql", "SELECT 1", "--format", "xml"], 2, "xml"),
        (["serve-hub", "nowhere"], 2, "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_wrong_usage_is_told_in_a_line(arguments, code, says, tmp_path):
    done = run(*arguments, HUBDELTA_INDEX=str(tmp_path / "index"))
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def index_without_network(tmp_path):
    """Run `hubdelta index` where no Hub answers, with short pauses between attempts."""
    script = tmp_path / "impatient.py"
    script.write_text(
        "from functools import partial\n"
        "from hubdelta.cli import main\n"
        "from hubdelta.crawler import hub\n"
        "hub.HubSettings = partial(hub.HubSettings, first_wait=0.01, longest_wait=0.02)\n"
        "main()\n"
    )
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}

    def index(*arguments):
        return run("index", *arguments, script=script, computing=True, cwd=tmp_path, **dead)

    return index


def test_a_folder_that_was_perhaps_meant_is_named(index_without_network, tmp_path):
    for name in ("my-base", "org/name"):
        (tmp_path / name).mkdir(parents=True)

    def say(*arguments):
        return index_without_network(*arguments).stderr

    assert "not a base model: did you mean the folder ./my-base?" in say("--base", "my-base")
    assert "not an adapter: did you mean the folder ./my-base?" in say("--base", "a/b", "my-base")
    assert "asking the Hub for org/name; did you mean the folder ./org/name?" in say(
        "--base", "org/name", "--no-crawl"
    )


def test_no_network_is_told_in_a_line(index_without_network, tmp_path):
    done = index_without_network("--base", "a/b", "--index", tmp_path / "index")
    assert done.returncode == 1
    assert "http://127.0.0.1:9" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path):
    asked = ["similar", "a/b", "--index", tmp_path / "nowhere"]
    assert "Traceback" not in run(*asked).stderr
    done = run("--debug", *asked)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "nowhere" in done.stderr.splitlines()[-1]


def test_a_missing_extra_is_named(tmp_path):
    """As after `pip install hubdelta`, without torch."""
    code = (
        "import sys, importlib.util as util; find = util.find_spec; "
        "util.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a); "
        "from hubdelta.cli import run; sys.exit(run(['index', '--base', 'a/b']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: hubdelta index needs more packages: pip install 'hubdelta[index]'\n"
    )


@pytest.mark.parametrize("output_format", ["json", "csv", "parquet", "table"])
def test_every_format_is_read_back(output_format, tmp_path):
    import io

    import pyarrow.csv
    import pyarrow.parquet as pq

    from hubdelta.schemas.index import Index

    Index.create(tmp_path / "index")
    query = "SELECT 1 AS n, 'a,\"b' AS t, [1.5, NULL] AS l, 'nan'::DOUBLE AS x, MAP {'k': 2} AS m"
    done = run_bytes(
        "sql", query, "--format", output_format, HUBDELTA_INDEX=str(tmp_path / "index")
    )
    assert done.returncode == 0, done.stderr
    if output_format == "json":
        assert json.loads(done.stdout) == [
            {"n": 1, "t": 'a,"b', "l": [1.5, None], "x": None, "m": {"k": 2}}
        ]
    elif output_format == "csv":
        (row,) = pyarrow.csv.read_csv(io.BytesIO(done.stdout)).to_pylist()
        assert (row["t"], json.loads(row["l"])) == ('a,"b', [1.5, None])
    elif output_format == "parquet":
        assert pq.read_table(io.BytesIO(done.stdout))["n"].to_pylist() == [1]
    else:
        header, row = done.stdout.decode().splitlines()
        assert header == "n\tt\tl\tx\tm"
        assert row == '1\ta,"b\t1.5, \t\t{"k": 2}'


def test_a_table_shows_markup_and_control_characters_as_text(tmp_path):
    from hubdelta.schemas.index import Index

    Index.create(tmp_path / "index")
    done = run(
        "sql", "SELECT '[red]x[/red]' || chr(27) || '[2J' AS t", "--index", tmp_path / "index"
    )
    assert "[red]x[/red]\N{REPLACEMENT CHARACTER}[2J" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_table_that_does_not_fit_the_terminal_shows_whole_values_all_the_same(tmp_path):
    from hubdelta.schemas.index import Index

    Index.create(tmp_path / "index")
    columns = ", ".join(f"{n}123456789 AS a_long_name_{n}" for n in range(1, 20))
    shown = show("sql", f"SELECT {columns}", columns=80, HUBDELTA_INDEX=str(tmp_path / "index"))
    for n in range(1, 20):
        assert f"{n}123456789" in shown.replace(",", "")
        assert f"a_long_name_{n}" in shown
