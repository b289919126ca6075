"""What the command line adds to an error: which of its options or commands helps.

The rooms below state facts, which users of `hubdelta.open_index` read as well.
"""

from collections.abc import Callable
from typing import Any

from hubdelta.schemas.errors import (
    HubdeltaError,
    IndexBusyError,
    ListeningError,
    NoIndexError,
    NotABaseError,
    NoVectorError,
    ReadOnlyError,
    SeveralBasesError,
)
from hubdelta.schemas.kinds import Kind


def with_hint(error: Exception) -> str:
    """The text of an error, and what helps where an option or a command does."""
    hint = next((hint(error) for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
    return f"{error}; {hint}" if hint else str(error)


def _base(error: NotABaseError) -> str:
    return f"pass --base {error.base}" if error.base else ""


def _vector(error: NoVectorError) -> str:
    if error.has_failed:
        return "`hubdelta status` says what to do"
    if error.base is None:
        return ""
    relation = " --relation finetune" if error.kind == Kind.FULL else ""
    return f"run `hubdelta index --base {error.base}{relation}`"


_HINTS: dict[type[HubdeltaError], Callable[[Any], str]] = {
    IndexBusyError: lambda error: "--wait waits for it",
    ListeningError: lambda error: "choose another --port; 0 takes a free one",
    NoIndexError: lambda error: (
        "make one with `hubdelta index --base ORG/NAME`, or name another with --index"
    ),
    NoVectorError: _vector,
    NotABaseError: _base,
    ReadOnlyError: lambda error: "--unsafe allows everything",
    SeveralBasesError: lambda error: "choose one with --base",
}
