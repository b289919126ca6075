"""The documentation holds together: generated pages are fresh, links lead somewhere."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from forking import run
from pages import OTHERS, PAGES, ROOT, blocks, text_of

HELP = dict(
    re.findall(
        r"^## hubdelta ([\w-]+)\n(.*?)^```$", text_of(ROOT / "docs/commands.md"), re.M | re.S
    )
)
"""Each command's help, as the reference of commands has it."""


def commands():
    """Each line of the pages that runs hubdelta, with the page that shows it."""
    for page in [*PAGES, *OTHERS]:
        if page.name == "commands.md":
            continue
        for _, text in blocks(page, "sh", "text"):
            for line in re.findall(r"^(?:\$ )?hubdelta (.+?)(?: #.*)?$", text, re.MULTILINE):
                yield page, line
        for line in re.findall(r"`hubdelta ([^`]+)`", text_of(page)):
            yield page, line


@pytest.mark.slow
def test_generated_pages_are_fresh():
    done = run("--check", script=ROOT / "docs/generate.py")
    assert done.returncode == 0, done.stderr


def test_the_site_builds_without_a_warning(tmp_path):
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: pip install -c constraints.txt -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_of_the_repository(page):
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text_of(page))
    for target in (one or other for one, other in links):
        if target.startswith(("http:", "https:")):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(place), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_a_page_names_exist(page):
    if page.parent.name not in {"demo", "web"}:  # those name files of their own folder
        ends = "py|sql|toml|txt|html|service|timer"
        for path in re.findall(rf"`((?:[\w-]+/)+[\w-]+\.(?:{ends}))`", text_of(page)):
            named = "test_NAME" in path or "NAME.py" in path
            assert named or (ROOT / path).exists(), f"{page.name} names {path}"


def test_commands_in_the_pages_exist_with_their_options():
    known = 0
    for page, line in commands():
        name, *rest = line.split()
        if name not in HELP:
            assert name.startswith(("--", "COMMAND")), f"{page.name}: hubdelta {line}"
            continue
        known += 1
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(rest).partition('"')[0]):
            assert option in HELP[name], f"{page.name}: hubdelta {line}"
    assert known > 30


def test_the_readme_is_short_and_shows_python_early():
    lines = text_of(ROOT / "README.md").splitlines()
    assert len(lines) <= 150
    assert lines.index("```python") < len(lines) / 3
