"""One ranged GET of a file at a commit, streamed: servers may send more than was requested."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import httpx

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.wire import WrongAnswerError
from hubdelta.schemas.keys import AdapterKey, is_commit

_MOST_EXTRA: Final = 0.05  # share of extra bytes fetched to save requests

_NO_LONGER_VALID: Final = frozenset({400, 401, 403, 404, 410})
"""Answers of a place whose signature has expired, or that has moved."""

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/(?:([0-9]{1,18})|\*)")


@dataclass(frozen=True)
class Part:
    """What a server sends of a file.

    Attributes:
        ranged: whether it is the requested range; otherwise it is the whole file.
        start: offset of its first byte.
        file_bytes: length of the whole file; None where the server does not say.
        hash: of the whole file: SHA-256, 64 hex digits, or git's blob hash, 40; None where the
            Hub does not say.
        url: where the bytes come from, to which the Hub redirected; valid for a while.
        chunks: the bytes, as they arrive.
    """

    ranged: bool
    start: int
    file_bytes: int | None
    hash: str | None
    url: str
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Start:
    """The first bytes of a file.

    Attributes:
        content: the bytes.
        file_bytes: length of the whole file; None where the server does not say.
        hash: as in `Part`.
        url: as in `Part`.
    """

    content: bytes
    file_bytes: int | None
    hash: str | None
    url: str


@contextmanager
def open_part(
    hub: Hub, key: AdapterKey, file: str, start: int, end: int, *, url: str | None = None
) -> Iterator[Part]:
    """Request the bytes [start, end) of a file; leaving the context ends the transfer.

    A file whose place is known from an earlier part is requested there, which the Hub does not
    count as a resolve. If that is no longer valid, the Hub is asked for the place again.

    A server that ignores ranges answers 200 with the whole file (RFC 9110, 14.2). The connection is
    reused after a part that ends where it should, and closed otherwise.

    Raises:
        WrongAnswerError: the answer is not this part of this file at this commit.
        HUB_FAILURES: as huggingface_hub and httpx raise them, also while reading chunks.
    """
    resolve = hf_hub_url(key.repo_id, file, revision=key.revision, endpoint=hub.endpoint)
    headers = {
        **hub.headers(),
        "range": f"bytes={start}-{end - 1}",
        "accept-encoding": "identity",
    }
    with _answer(url, resolve, headers) as response:
        size, there = _length(response), str(response.url)
        if response.status_code == 416 and start == 0 and not size:  # an empty file has no byte
            yield Part(True, 0, 0, _hash(response), there, iter(()))
            return
        if response.status_code == 416:
            raise WrongAnswerError(f"refuses the part from byte {start}, which the file has")
        hf_raise_for_status(response)
        _check_commit(response, key.revision)
        last, whole = _place(response, start)
        if size is not None and whole not in {None, size}:
            raise WrongAnswerError(f"a file of {whole} bytes where the Hub says {size}")
        chunks = response.iter_bytes()
        yield Part(
            last is not None,
            start if last is not None else 0,
            size if whole is None else whole,
            _hash(response),
            there,
            chunks,
        )
        if last is not None and last < end:
            with suppress(httpx.HTTPError):  # the caller already has what it needs
                for _ in chunks:
                    pass


def read_start(
    hub: Hub, key: AdapterKey, file: str, length: int, *, url: str | None = None
) -> Start:
    """The first bytes of a file; `url` as in `open_part`.

    Raises:
        WrongAnswerError: the body ends early, or is not from this file.
        HUB_FAILURES: as `open_part`.
    """
    content = bytearray()
    with open_part(hub, key, file, 0, length, url=url) as part:
        for chunk in part.chunks:
            content += chunk
            if len(content) >= length:
                break
    if part.file_bytes is not None and len(content) < min(length, part.file_bytes):
        raise WrongAnswerError(f"the answer ends after {len(content)} bytes")
    return Start(bytes(content[:length]), part.file_bytes, part.hash, part.url)


@contextmanager
def _answer(
    place: str | None, resolve: str, headers: Mapping[str, str]
) -> Iterator[httpx.Response]:
    """The answer of a file's known place, or else that of the Hub, which redirects to it."""

    def ask(url: str) -> AbstractContextManager[httpx.Response]:
        return get_session().stream("GET", url, headers=headers, follow_redirects=True)

    with ExitStack() as stack:
        if place is not None:
            response = stack.enter_context(ask(place))
            if response.status_code not in _NO_LONGER_VALID:
                yield response
                return
            stack.close()
        yield stack.enter_context(ask(resolve))


def coalesced(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges to request: the smallest gaps are fetched as well, to merge their neighbors.

    Args:
        ranges: [start, end) each, in file order, none empty.

    Returns:
        Fewer ranges that cover the same bytes and at most a twentieth more.
    """
    extra = int(_MOST_EXTRA * sum(end - start for start, end in ranges))
    bridged = set()
    gaps = sorted((start - end, start) for (_, end), (start, _) in pairwise(ranges))
    for gap, start in gaps:
        extra -= gap
        if extra < 0:
            break
        bridged.add(start)
    fewer: list[tuple[int, int]] = []
    for start, end in ranges:
        fewer.append((fewer.pop()[0] if start in bridged else start, end))
    return fewer


def _place(response: httpx.Response, start: int) -> tuple[int | None, int | None]:
    """Offset of the last byte of the range (None for a whole file), and the file's length."""
    if response.status_code != 206:
        whole = response.headers.get("content-length", "")
        return None, int(whole) if re.fullmatch("[0-9]{1,18}", whole) else None
    stated = response.headers.get("content-range", "")
    match = _RANGE.fullmatch(stated)
    if match is None or int(match[1]) != start or int(match[2]) < start:
        raise WrongAnswerError(f"the part {stated[:60]!r} where one from byte {start} was wanted")
    whole_file = None if match[3] is None else int(match[3])
    if whole_file is not None and int(match[2]) >= whole_file:
        raise WrongAnswerError(f"an impossible part, {stated[:60]!r}")
    return int(match[2]), whole_file


def _length(response: httpx.Response) -> int | None:
    """The whole file's length on record at the Hub (`X-Linked-Size`, for LFS files).

    For a refused range, also from the refusal itself (RFC 9110, 15.5.17).
    """
    stated = [answer.headers.get("x-linked-size", "") for answer in (*response.history, response)]
    if response.status_code == 416:
        stated.append(response.headers.get("content-range", "").removeprefix("bytes */"))
    return next((int(text) for text in stated if re.fullmatch("[0-9]{1,18}", text)), None)


def _check_commit(response: httpx.Response, revision: str) -> None:
    for answer in (*response.history, response):
        commit = answer.headers.get("x-repo-commit", "")
        if is_commit(commit) and is_commit(revision) and commit != revision:
            raise WrongAnswerError(f"a file of commit {commit}, not of {revision}")


def _hash(response: httpx.Response) -> str | None:
    """The hash on record at the Hub; if it redirects to a cache, only its own answer has it."""
    for answer in (*response.history, response):
        for name in ("x-linked-etag", "etag"):
            tag = answer.headers.get(name, "").removeprefix("W/").strip('"')
            if _HASH.fullmatch(tag):
                return str(tag)
    return None
