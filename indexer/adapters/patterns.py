"""Regular expressions in an adapter's config, tried with a deadline before PEFT uses them.

PEFT matches target_modules, exclude_modules, rank_pattern and others with Python's `re` against the
names of all modules, and of the parameters that target_parameters adapts. A pattern like (a+)+$ can
take practically forever, and signals are not handled meanwhile. So a child process tries them
first, and is killed at the deadline.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.schemas.errors import AdapterError, Reason

_SECONDS: Final = 5.0  # real patterns take milliseconds; a busy machine may start a process slowly
_LONGEST: Final = 10_000  # characters
_MOST_PARAMETERS: Final = 100  # of different last names; real configs have a few

_PATTERNS: Final = ("_modules", "_pattern", "_parameters", "modules_to_save")
"""Suffixes of keys whose texts PEFT treats as patterns: as values, in lists, as dict keys."""

_SPECIAL: Final = frozenset("*+{?([\\|")
"""A text without any of these is a module name, with nothing to backtrack over."""

_TRY: Final = r"""
import json, re, sys
patterns, names = json.load(sys.stdin)
for number, pattern in enumerate(patterns):
    print(number, flush=True)
    try:
        # As PEFT writes them: tuners_utils.py and utils/other.py.
        forms = [re.compile(form) for form in (
            pattern, rf"(.*\.)?({pattern})$", rf"(^|.*\.){pattern}($|\..*)",
            rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", rf".*\.{pattern}$",
        )]
    except (re.error, RecursionError, OverflowError) as error:
        print("error", error, flush=True)
        sys.exit()
    for form in forms:
        for name in names:
            form.fullmatch(name)
            form.match(name)
print("done", flush=True)
"""


def check_patterns(config: AdapterConfig, names: Sequence[str]) -> None:
    """Reject a config with a pattern that cannot be matched in a few seconds.

    Args:
        config: the adapter's.
        names: of modules and parameters of the base; if empty, nothing is tried.

    Raises:
        AdapterError: corrupt, naming the key.
    """
    found = [
        (key, pattern)
        for key, value in config.values.items()
        if key.endswith(_PATTERNS)
        for pattern in _texts(value)
        if _SPECIAL & set(pattern)
    ]
    for key, pattern in found:
        if len(pattern) > _LONGEST:
            raise _refusal(key, pattern, f"has {len(pattern):,} characters")
    patterns = tuple(dict.fromkeys(pattern for _, pattern in found))
    tried = _with_parameters(config, names)
    if patterns and tried and (complaint := _complaint(patterns, tried)):
        number, what = complaint
        key = next(key for key, pattern in found if pattern == patterns[number])
        raise _refusal(key, patterns[number], what)


def _with_parameters(config: AdapterConfig, names: Sequence[str]) -> tuple[str, ...]:
    """The names, plus the names of parameters in them that target_parameters may adapt.

    Raises:
        AdapterError: corrupt: target_parameters is too long.
    """
    parameters = {
        parameter.rpartition(".")[2] for parameter in _texts(config.values.get("target_parameters"))
    }
    if len(parameters) > _MOST_PARAMETERS:
        raise AdapterError(
            Reason.CORRUPT,
            f"{CONFIG_FILE}: target_parameters has {len(parameters):,} different last names, but "
            f"layers have {_MOST_PARAMETERS} at most",
        )
    inner = (f"{name}.{parameter}" for parameter in sorted(parameters) for name in names)
    return tuple(dict.fromkeys((*names, *inner)))


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value: itself, the items of a list, or the keys of a dict."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        yield from (text for text in value if isinstance(text, str))


@lru_cache(maxsize=256)
def _complaint(patterns: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, str] | None:
    """The position of a bad pattern, and what is wrong with it.

    Most adapters of a base have the same patterns, so answers are cached.
    """
    try:
        done = subprocess.run(  # noqa: S603 (this Python, with our own code)
            [sys.executable, "-I", "-S", "-c", _TRY],
            input=json.dumps([patterns, names]),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        said = done.stdout
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode()
    lines = said.splitlines()
    if lines and lines[-1] == "done":
        return None
    number = max((int(line) for line in lines if line.isdigit()), default=0)
    error = next((line for line in lines if line.startswith("error ")), None)
    if error is not None:
        return number, f"is not a valid regular expression: {error.removeprefix('error ')}"
    return number, f"did not finish within {_SECONDS:.0f} s on the base's names"


def _refusal(key: str, pattern: str, what: str) -> AdapterError:
    return AdapterError(
        Reason.CORRUPT,
        f"{CONFIG_FILE}: the pattern {pattern[:60]} in {key} {what}: its author should name the "
        "modules instead",
    )
