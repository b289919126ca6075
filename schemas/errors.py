"""The project's error tree. Each error tells the user in one line what is wrong.

HubdeltaError                  the run could not be done            exit code 1
├── UsageError                 a wrong argument or setting          exit code 2
│   ├── NotABaseError          the named base is an adapter, or not a model at all
│   └── SeveralBasesError      the index has several bases, and none was named
├── MissingExtraError          an optional dependency is absent
├── IndexStoreError            the index cannot be used
│   ├── NoIndexError           there is no index at that path
│   ├── NewerIndexError        a newer hubdelta wrote it
│   ├── DamagedFileError       a Parquet file is incomplete or corrupt
│   ├── UnreadableError        no permission to read a file or folder, or the disk fails
│   ├── IndexBusyError         another run holds it
│   └── IndexWriteError        no space, no permission
├── OutputError                a requested output file cannot be written
├── HubError                   the Hub cannot be used at all (offline, wrong token, unknown base)
│   └── ListeningError         the local Hub cannot listen at an address
├── QueryError                 a query is wrong, or not allowed
│   ├── ReadOnlyError          not allowed on a read-only connection
│   └── NoVectorError          an adapter it names has no vector
└── AdapterError               one adapter gave no vector: becomes a row of `failures`

Messages state facts; `hubdelta.hints` adds the command-line option that helps, by class.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from hubdelta.schemas.kinds import Kind


class Reason(StrEnum):
    """Why an adapter gave no vector: the closed list that `failures.reason` holds."""

    GATED = "gated"
    NOT_FOUND = "not_found"
    DISABLED = "disabled"
    NO_WEIGHTS = "no_weights"
    UNSAFE_FORMAT = "unsafe_format"
    CORRUPT = "corrupt"
    NOT_FINITE = "not_finite"
    BASE_MISMATCH = "base_mismatch"
    UNSUPPORTED_ADAPTER = "unsupported_adapter"
    TOO_LARGE = "too_large"
    NETWORK = "network"
    ENGINE = "engine"

    def pause_after(self, attempt: int) -> timedelta | None:
        """How long to wait before the next attempt, doubling with each one up to a month.

        Args:
            attempt: which attempt has just failed, from 1.

        Returns:
            The pause, or None where only a change of the repository can help.
        """
        first = _FIRST_PAUSE.get(self)
        return None if first is None else min(first * 2 ** min(attempt - 1, 16), timedelta(days=30))


_LONGEST_MESSAGE = 500  # characters
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that change text direction."""

_FIRST_PAUSE = {
    Reason.NETWORK: timedelta(hours=1),
    Reason.GATED: timedelta(days=1),
    Reason.NOT_FOUND: timedelta(days=1),
}


class HubdeltaError(Exception):
    """Base of every error that hubdelta raises; its text is one line a person can act on."""


class UsageError(HubdeltaError):
    """A wrong argument or setting."""


class NotABaseError(UsageError):
    """The model named as a base is an adapter, or cannot be loaded as a model.

    Attributes:
        base: the model to name instead, ORG/NAME, if known.
    """

    def __init__(self, message: str, base: str | None = None) -> None:
        super().__init__(message)
        self.base = base


class SeveralBasesError(UsageError):
    """The index has several bases, and none is named."""

    def __init__(self, bases: Sequence[str]) -> None:
        super().__init__(f"the index has several bases: {', '.join(bases)}")


class MissingExtraError(HubdeltaError):
    """A command needs packages of an extra that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more packages: pip install 'hubdelta[{extra}]'")


class MissingPackageError(HubdeltaError):
    """A feature needs a package that is not installed and that no extra includes."""

    def __init__(self, what: str, package: str) -> None:
        super().__init__(f"{what} needs {package}: pip install {package}")


class IndexStoreError(HubdeltaError):
    """The index cannot be used."""


class NoIndexError(IndexStoreError):
    """There is no index at the given place."""


class NewerIndexError(IndexStoreError):
    """The index was written by a newer hubdelta."""


class DamagedFileError(IndexStoreError):
    """A Parquet file of the index is incomplete or corrupt."""


class UnreadableError(IndexStoreError):
    """A file or folder of the index may be whole, but cannot be read at the moment."""


class IndexBusyError(IndexStoreError):
    """Another run is writing to the index."""


class IndexWriteError(IndexStoreError):
    """The index cannot be written: no space, no permission."""


class OutputError(HubdeltaError):
    """A requested output file cannot be written: no space, no permission."""


class HubError(HubdeltaError):
    """The Hub cannot be used at all: no network, a wrong token, an unknown base."""


class ListeningError(HubError):
    """The local Hub cannot listen at the requested address."""


class QueryError(HubdeltaError):
    """A query is wrong, or does what a read-only connection may not do."""


class ReadOnlyError(QueryError):
    """A query does what a read-only connection may not do."""


class NoVectorError(QueryError):
    """An adapter named in a query has no vector that can be compared.

    Attributes:
        base: the base to embed it under, if no run has tried it yet; otherwise None.
        kind: adapter, or full for a full finetune.
        has_failed: whether a run has tried it and failed.
    """

    def __init__(
        self,
        message: str,
        *,
        base: str | None = None,
        kind: str = Kind.ADAPTER,
        has_failed: bool = False,
    ) -> None:
        super().__init__(message)
        self.base, self.kind, self.has_failed = base, kind, has_failed


class AdapterError(HubdeltaError):
    """One adapter gave no vector.

    Its message may quote untrusted uploads: control characters and text that UTF-8 cannot encode
    are replaced so that it can be stored and shown, and it is kept to one line.

    Attributes:
        reason: one of the closed list.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(printable(message)[:_LONGEST_MESSAGE])
        self.reason = reason


def printable(text: str) -> str:
    """The text on one line, encodable as UTF-8 and without terminal control characters."""
    return without_controls(" ".join(text.split()))


def without_controls(text: str) -> str:
    """The text without surrogates or control characters other than line breaks and tabs."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", encodable)
