"""The order of the rooms: what stands lower never imports what stands higher, nor a neighbor."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ORDER = [
    {"schemas", "vectors"},
    {"crawler", "hub_server"},
    {"indexer", "sql"},
    {"clusters", "evaluation", "explorer"},
    {"demo", "hubdelta"},
]
"""The rooms, low to high. `vectors` and `clusters` raise the errors of `schemas`, `explorer` asks
`sql`, and the two of the top share the command line."""

ALLOWED_BESIDE = {("vectors", "schemas"), ("hubdelta", "demo")}

INSIDE = {
    "indexer": ["", "adapters", "engines", "pipeline"],
    "sql": ["views", "cache", "search", "", "questions"],
    "hubdelta": ["jobs", "terminal", "commands"],
}
"""The folders of rooms that have some, low to high; the empty name is the room's own files."""

ELSEWHERE = {"script.py", "schemas/defaults.py"}
"""Files of other folders that a map may speak of."""

FILES = sorted(
    path.relative_to(ROOT)
    for room in sorted(set().union(*ORDER))
    for path in (ROOT / room).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)


def imports(path: Path) -> Iterator[list[str]]:
    """The modules of this project that a file imports, each as room, folder, file."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "hubdelta":
                known = len(parts) > 1 and any(parts[1] in rooms for rooms in ORDER)
                yield parts[1:] if known else parts


def level(room: str) -> int:
    return next(number for number, rooms in enumerate(ORDER) if room in rooms)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_from_rooms_below_its_own(path: Path) -> None:
    room = path.parts[0]
    for parts in imports(path):
        if parts[0] != room and (room, parts[0]) not in ALLOWED_BESIDE:
            assert level(parts[0]) < level(room), f"{path} imports {'.'.join(parts)}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] in INSIDE], ids=str)
def test_a_file_imports_only_from_folders_below_its_own(path: Path) -> None:
    room = path.parts[0]
    order = INSIDE[room]

    def place(parts: list[str]) -> int | None:
        folder = parts[1] if len(parts) > 1 and parts[1] in order else ""
        return order.index(folder) if folder in order else None

    mine = place([*path.parts[:-1], ""])
    for parts in imports(path):
        if parts[0] == room:
            theirs = place(parts)
            ordered = mine is None or theirs is None or theirs <= mine
            assert ordered, f"{path} imports {'.'.join(parts)}"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in FILES} - {Path("hubdelta/commands")}), ids=str
)
def test_every_folder_has_a_map_of_its_files(folder: Path) -> None:
    text = (ROOT / folder / "__init__.py").read_text("utf-8")
    named = set(re.findall(r"[\w/]+\.py\b", text))
    files = {path.name for path in FILES if path.parent == folder} - {"__init__.py", "__main__.py"}
    assert files - named == set(), "without a place on the map"
    assert {name for name in named if not (ROOT / folder / name).exists()} <= ELSEWHERE
