"""What the README shows is true: every query of the cookbook runs on the demo's index."""

import re
from pathlib import Path

import pytest

from hubdelta.cli import hubdelta
from hubdelta.demo.pool import MIXED

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("## SQL cookbook")[2].partition("\n## ")[0]
COOKBOOK = re.findall(r"\*\*(.+?)\*\*.*?```sql\n(.*?)```", SECTION, re.DOTALL)


def test_the_table_of_commands_has_each_of_them_and_no_other():
    table = README.partition("## Commands")[2].partition("\n\nEach takes")[0]
    listed = re.findall(r"^\| `hubdelta ([\w-]+)", table, re.MULTILINE)
    assert sorted(listed) == sorted(hubdelta.list_commands(None))


def test_the_python_of_the_readme_runs(demo, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(demo.path.parent)
    names = {}
    exec(code.replace("./hubdelta-index", str(demo.path)), names)
    assert len(names["near"]) == 5
    assert set(names["mine"]["adapter"]) > {"mlnights/lora-test-3"}
    assert names["matrix"].shape == (len(names["names"]), 576)


def test_there_is_a_cookbook():
    assert len(COOKBOOK) == README.count("```sql") >= 10


@pytest.mark.parametrize(("title", "query"), COOKBOOK, ids=[title for title, _ in COOKBOOK])
def test_a_query_of_the_cookbook_runs_and_answers(title, query, demo):
    done = demo.run("sql", query)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1, title


def test_the_cookbook_shows_additivity(demo):
    (query,) = (query for title, query in COOKBOOK if "sum of the two" in title)
    with demo.queries() as queries:
        rows = {row["adapter"]: row for row in queries.run(query).to_pylist()}
    for mixed in MIXED:
        row = rows[mixed.repo_id]
        assert row["to_sum"] > max(row["to_first"], row["to_second"])
