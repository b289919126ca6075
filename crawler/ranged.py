"""One ranged GET of a file at a commit, streamed: servers may send more than was asked for."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import httpx

from hubdelta.crawler.hub import Hub
from hubdelta.schemas.keys import AdapterKey

_MOST_EXTRA: Final = 0.05  # of the bytes needed, fetched in vain to save requests

_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")


@dataclass(frozen=True)
class Part:
    """What a server sends of a file.

    Attributes:
        ranged: whether it is the range asked for; the whole file where the range was ignored.
        start: offset of its first byte.
        file_bytes: length of the whole file; None where the server does not say.
        hash: of the whole file: SHA-256, 64 hex digits, or git's blob hash, 40; None where the
            Hub does not say.
        chunks: the bytes, as they arrive.
    """

    ranged: bool
    start: int
    file_bytes: int | None
    hash: str | None
    chunks: Iterator[bytes]


@contextmanager
def open_part(hub: Hub, key: AdapterKey, file: str, start: int, end: int) -> Iterator[Part]:
    """Ask for the bytes [start, end) of a file; leaving the context ends the transfer.

    A server that ignores ranges answers 200 with the whole file (RFC 9110, 14.2). The connection
    serves the next request after a part that ends where it should; others are cut off, and closed.

    Raises:
        HUB_FAILURES: as huggingface_hub and httpx raise them, also while chunks are taken.
    """
    url = hf_hub_url(key.repo_id, file, revision=key.revision, endpoint=hub.endpoint)
    headers = {
        **hub.headers(),
        "range": f"bytes={start}-{end - 1}",
        "accept-encoding": "identity",
    }
    with get_session().stream("GET", url, headers=headers, follow_redirects=True) as response:
        if response.status_code == 416 and start == 0:  # an empty file has no first byte
            yield Part(True, 0, 0, None, iter(()))
            return
        hf_raise_for_status(response)
        stated = response.headers.get("content-range", "")
        ranged = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", stated)
        whole = ranged[3] if ranged else response.headers.get("content-length", "")
        chunks = response.iter_bytes()
        yield Part(
            ranged is not None,
            int(ranged[1]) if ranged else 0,
            int(whole) if whole.isdecimal() else None,
            _hash(response),
            chunks,
        )
        if ranged and int(ranged[2]) < end:
            with suppress(httpx.HTTPError):  # the caller has what it wanted
                for _ in chunks:
                    pass


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What to ask for: ranges with the smallest gaps between them fetched along.

    Args:
        ranges: [start, end) each, in the order of the file, none of them empty.

    Returns:
        The same bytes in fewer ranges, and at most a twentieth more.
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


def _hash(response: httpx.Response) -> str | None:
    """What the Hub has on record; where it redirects to a cache, only its own answer says it."""
    for answer in (*response.history, response):
        for name in ("x-linked-etag", "etag"):
            tag = answer.headers.get(name, "").removeprefix("W/").strip('"')
            if _HASH.fullmatch(tag):
                return str(tag)
    return None
