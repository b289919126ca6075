"""What the README and the pages show is true: their queries and their Python run on the demo."""

import re

import pytest
from pages import PAGES, ROOT, blocks, text_of

from hubdelta.cli import hubdelta
from hubdelta.demo.pool import MIXED

README = ROOT / "README.md"
COOKBOOK = [found for page in PAGES for found in blocks(page, "sql")]
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


def test_the_table_of_commands_has_each_of_them_and_no_other():
    table = text_of(README).partition("## Commands")[2].partition("\n\nEach has")[0]
    listed = re.findall(r"^\| `hubdelta ([\w-]+)", table, re.MULTILINE)
    assert sorted(listed) == sorted(hubdelta.list_commands(None))


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, demo, monkeypatch):
    monkeypatch.chdir(demo.path.parent)
    names = {}
    for _, code in blocks(page, "python"):
        exec(code.replace("./hubdelta-index", str(demo.path)), names)
    assert len(names["near"]) == 5
    assert set(names["mine"]["adapter"]) > {"mlnights/lora-test-3"}
    assert names["matrix"].shape == (len(names["names"]), 576)


def test_there_are_pages_of_queries_and_of_python():
    assert len(COOKBOOK) >= 20
    assert {page.name for page in WITH_PYTHON} == {"README.md", "python.md"}


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
