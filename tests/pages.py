"""The pages that readers of the documentation see, and what of them runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Pages of examples: the README and those of the site."""

OTHERS = [
    ROOT / name
    for name in (
        *("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
        *("demo/README.md", "bench/PERFORMANCE.md", "explorer/web/README.md"),
    )
]
"""Pages without examples to run; the site includes most of them."""


def text_of(page: Path) -> str:
    """A page's text."""
    return page.read_text("utf-8")


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The code blocks of a page in any of some languages, each with the heading above it."""
    found, heading = [], page.name
    for match in re.finditer(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```", text_of(page), re.M | re.S):
        if match[1]:
            heading = match[1]
        elif match[2] in languages:
            found.append((heading, match[3]))
    return found
