"""What the Hub's errors mean: a retry, a failure of one adapter, or the end of the run."""

import errno
from collections.abc import Iterator
from typing import Final

from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from hubdelta.crawler.wire import (
    UnusableAnswerError,
    WrongAnswerError,
    dropped_wait,
    requested_wait,
)
from hubdelta.schemas.errors import (
    AdapterError,
    HubdeltaError,
    HubError,
    IndexWriteError,
    Reason,
    printable,
)

HUB_FAILURES: Final = (
    HfHubHTTPError,
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
    ValueError,
    RuntimeError,
)
"""What huggingface_hub raises when the cause is the Hub or the network. ValueError: an invalid
answer. RuntimeError: a client closed by another thread, or hf_xet."""

_TRANSIENT_STATUS: Final = {408, 429, 500, 502, 503, 504}
_TRANSIENT: Final = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.DecodingError,
    UnusableAnswerError,
)
_FULL_DISK: Final = {errno.ENOSPC, errno.EDQUOT}
_OPEN_FILES: Final = {errno.EMFILE, errno.ENFILE}
_BROKEN_DISK: Final = {errno.EROFS, errno.EIO}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM}
_REFUSED_TOKEN: Final = "Invalid credentials in Authorization header"  # noqa: S105


def is_transient(error: BaseException) -> bool:
    """Whether the same call may well succeed shortly.

    Not LocalEntryNotFoundError: huggingface_hub raises it after its own retries.
    """
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _TRANSIENT_STATUS
    return isinstance(error, _TRANSIENT) or _is_cut_short(error) or _is_closed_client(error)


def is_outage(error: BaseException | None) -> bool:
    """Whether the Hub or the network is down for now, as opposed to a wrong request."""
    if isinstance(error, HfHubHTTPError) and error.response.status_code >= 500:
        return True
    return error is not None and is_transient(error)


def requested_pause(error: BaseException) -> float | None:
    """How long the Hub asks to wait, in seconds."""
    return requested_wait(error.response) if isinstance(error, HfHubHTTPError) else None


def one_line(error: BaseException) -> str:
    """An error's message on one line, without the queries of URLs, which may be signed."""
    if isinstance(error, HfHubHTTPError):
        answer = f"{error.response.status_code} {error.response.reason_phrase}"
        if (asked := dropped_wait(error.response)) is not None:
            answer += f", and asks to wait {asked:.0f} seconds"
        text = f"{answer}: {error.server_message}" if error.server_message else answer
    else:
        text = str(error).strip() or type(error).__name__
    words = text.splitlines()[0].split()
    return " ".join(word.split("?")[0] if "://" in word else word for word in words)


def hub_error(error: Exception, endpoint: str) -> HubdeltaError:
    """The error for a run that cannot continue without the Hub."""
    cause = _root_cause(error)
    if isinstance(cause, OfflineModeIsEnabled):
        return HubError("the Hub cannot be reached while HF_HUB_OFFLINE is set: unset it")
    if is_refused_token(cause):
        return refused_token(endpoint)
    if isinstance(cause, HfHubHTTPError):
        return HubError(f"{endpoint} answered: {one_line(cause)}")
    if isinstance(cause, httpx.HTTPError | httpx.InvalidURL):
        return HubError(
            f"no answer from {endpoint} ({one_line(cause)}): "
            "check the network, HF_ENDPOINT and any proxy"
        )
    if isinstance(cause, UnusableAnswerError):
        return HubError(f"{endpoint} does not answer as a Hub: {cause}; check HF_ENDPOINT")
    if isinstance(cause, ValueError):
        return HubError(f"{endpoint} does not answer as a Hub: check HF_ENDPOINT")
    if isinstance(cause, OSError) and cause.filename is not None:
        return _unwritable(cause)
    return HubError(f"{endpoint} cannot be used: {one_line(cause)}")


def adapter_error(error: Exception, what: str, repo_id: str, endpoint: str) -> HubdeltaError:
    """The error for an adapter that could not be fetched.

    Args:
        error: what huggingface_hub raised.
        what: what was requested, for the message: an adapter's name, perhaps with a file's.
        repo_id: its repository.
        endpoint: URL of the Hub.

    Returns:
        An AdapterError; a HubError or IndexWriteError if it is not the adapter's fault.
    """
    cause = _root_cause(error)
    if isinstance(cause, OfflineModeIsEnabled) or is_refused_token(cause):
        return hub_error(error, endpoint)
    if full := disk_error(cause, what):
        return full
    reason, message = _reason(cause, repo_id, endpoint)
    return AdapterError(reason, f"{what}: {message}")


def refused_token(endpoint: str) -> HubError:
    """The error for a token that the Hub rejects."""
    return HubError(f"{endpoint} refuses the token: check HF_TOKEN, or log in with `hf auth login`")


def is_refused_token(error: BaseException) -> bool:
    """Whether the Hub says so explicitly; a hidden repository also gives 401, but without this."""
    return (
        isinstance(error, HfHubHTTPError)
        and error.response.status_code == 401
        and error.response.headers.get("x-error-message") == _REFUSED_TOKEN
    )


def is_hidden(error: BaseException) -> bool:
    """Whether a repository is not visible: missing, private and forbidden ones look alike."""
    return isinstance(error, RepositoryNotFoundError | RevisionNotFoundError) or (
        isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403, 404}
    )


def disk_error(error: BaseException, what: str) -> IndexWriteError | None:
    """The error for a machine that cannot write files, if it is one.

    An objection to one path only, such as its length, is not.
    """
    numbers = {link.errno for link in _chain(error) if isinstance(link, OSError)}
    if numbers & _FULL_DISK:
        return IndexWriteError(
            f"no disk space left to download {what}: free some where the index and HF_HOME are"
        )
    if numbers & _OPEN_FILES:
        return IndexWriteError(f"too many open files to download {what}: raise `ulimit -n`")
    if isinstance(error, OSError) and (
        error.errno in _BROKEN_DISK
        # Only with a file name: a firewall rejects sockets with the same error numbers.
        or (error.errno in _FORBIDDEN and error.filename is not None)
    ):
        return _unwritable(error)
    return None


def _unwritable(error: OSError) -> IndexWriteError:
    where = "a file" if error.filename is None else printable(str(error.filename))
    return IndexWriteError(f"cannot write {where}: {error.strerror}")


def _root_cause(error: BaseException) -> BaseException:
    """The error behind huggingface_hub's "not in the local cache either"."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _reason(error: BaseException, repo_id: str, endpoint: str) -> tuple[Reason, str]:
    match error:
        case GatedRepoError():
            return (
                Reason.GATED,
                f"request access at {endpoint}/{repo_id}, then set HF_TOKEN",
            )
        case DisabledRepoError():
            return Reason.DISABLED, "the Hub has switched this repository off"
        case RevisionNotFoundError():
            return (
                Reason.NOT_FOUND,
                f"this commit is no longer a revision of {endpoint}/{repo_id}, whose history was "
                "rewritten: the next crawl finds the current one",
            )
        case EntryNotFoundError():
            # A commit never gains a file: only a new commit can help.
            return Reason.NO_WEIGHTS, "the repository does not have this file at this revision"
        case HFValidationError():
            return Reason.NOT_FOUND, "not a name that the Hub allows"
        case UnicodeEncodeError():
            return Reason.CORRUPT, "its path cannot be stored on this machine"
        case OSError(filename=str() | bytes()):
            return Reason.CORRUPT, f"its path cannot be stored on this machine: {error.strerror}"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 403:
        return Reason.GATED, f"not allowed with this token: {one_line(error)}"
    if is_hidden(error):
        return (
            Reason.NOT_FOUND,
            f"not at {endpoint}, or hidden: deleted, private (set HF_TOKEN) or renamed",
        )
    if isinstance(error, UnusableAnswerError):
        return Reason.NETWORK, f"{endpoint} does not answer as a Hub: {error}"
    if isinstance(error, ValueError):
        return Reason.NETWORK, "the answer cannot be read"
    return Reason.NETWORK, f"no usable answer from {endpoint}: {one_line(error)}"


def _is_closed_client(error: BaseException) -> bool:
    """Whether another thread closed the shared client, as huggingface_hub does on a lost line."""
    return isinstance(error, RuntimeError) and "client has been closed" in str(error)


def _is_cut_short(error: BaseException) -> bool:
    # huggingface_hub's "Consistency check failed" is a plain OSError without a number.
    return isinstance(error, WrongAnswerError) or (type(error) is OSError and error.errno is None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
