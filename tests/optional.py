"""What an environment without an extra need not test: files that import its packages.

An extra is optional only if what does not belong to it runs without it. So nothing is skipped
where another room than those of the extra, or a package that is installed, is what failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[1]

_EXTRA_OF = {
    **dict.fromkeys(("accelerate", "peft", "psutil", "safetensors", "torch"), "index"),
    **dict.fromkeys(("tokenizers", "transformers"), "index"),
    "matplotlib": "evaluate",
    "selenium": "dev",
}
"""Packages that only an extra brings."""

_ROOMS = {"tests", "indexer", "evaluation", "demo"}
"""What may import them: the tests themselves, and the rooms of the extras."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a file that needs packages of an extra which is not installed, and nothing else."""
    report = yield
    error = report.call.excinfo.value if report.failed else None
    if error and (package := absent(error.__cause__ or error)):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), None, f"Skipped: {needs(package)}")
    return report


def absent(error: BaseException | None) -> str | None:
    """The package of an extra whose absence is the error, if that is all that is wrong."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    if package not in _EXTRA_OF or find_spec(package) is not None:
        return None
    return package if _rooms_of(error) <= _ROOMS else None


def _rooms_of(error: BaseException) -> set[str]:
    """The rooms whose files were on the way to an error."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    places = [file.resolve() for file in files if file.is_file()]
    ours = [place.relative_to(_ROOT) for place in places if place.is_relative_to(_ROOT)]
    return {file.parts[0] for file in ours if not file.parts[0].startswith(".")}


def needs(package: str) -> str:
    """Why a test is skipped where a package is not installed."""
    return f"needs {package}: pip install 'hubdelta[{_EXTRA_OF[package]}]'"


def skip_without(package: str) -> None:
    """Skip the test that asks, if a package of an extra is not installed."""
    if find_spec(package) is None:
        pytest.skip(needs(package))
