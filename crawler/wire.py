"""Limits on the time, bytes and pauses of one response, installed in the client for all readers."""

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from huggingface_hub.utils import httpx, parse_ratelimit_headers

from hubdelta.crawler.pace import Pace, is_resolve

_PROGRESS: Final = 1_000_000  # bytes after which a broken transfer is worth resuming
_PIECE: Final = 1 << 20  # bytes unpacked at once, at most
_GZIP: Final = 16 + zlib.MAX_WBITS
_ASKED: Final = "hubdelta_asked_wait"


class SlowAnswerError(httpx.ReadError):
    """An answer that would take forever. huggingface_hub does not resume it by itself."""


class UnusableAnswerError(ValueError):
    """An answer that no Hub gives; the message says what is wrong with it."""


class WrongAnswerError(OSError):
    """A different part, file or commit than requested: worth requesting again."""


@dataclass(frozen=True)
class Limits:
    """Limits on one response.

    Attributes:
        slowest: bytes per second that a body must average after an initial grace period of one
            timeout. Below the default, an ordinary adapter takes an hour.
        largest: bytes of a response that is compressed or is not a file's content. A page of 1000
            models has several million.
        longest_pause: seconds that a server may ask to wait. The Hub's windows are 300, so more
            than two of them is a mistake: the request is repeated as if it had not asked.
    """

    slowest: float = 10_000
    largest: int = 100_000_000
    longest_pause: float = 600.0


class Wire:
    """Event hooks of one client, and what they count. Thread-safe.

    Attributes:
        sent: requests, counting each redirect followed.
        resolved: those of them that the Hub counts as file resolves.
        received: bytes of bodies, as they came over the network.
    """

    def __init__(self, endpoint: str, timeout: float, limits: Limits) -> None:
        self.sent = self.resolved = self.received = 0
        self._pace = Pace(limits.longest_pause)
        self._endpoint, self._timeout, self._limits = endpoint, timeout, limits
        self._counting = threading.Lock()

    def before_request(self, request: httpx.Request) -> None:
        """Wait for its turn, set its timeout, and send the token to the endpoint's server only."""
        self._pace.wait(request.url)
        with self._counting:
            self.sent += 1
            self.resolved += is_resolve(request.url)
        # Set here and not on the client: huggingface_hub passes timeout=None with most calls.
        timeouts = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            phase: self._timeout if timeouts.get(phase) is None else timeouts[phase]
            for phase in ("connect", "read", "write", "pool")
        }
        if request.headers.get("accept-encoding") != "identity":
            request.headers["accept-encoding"] = "gzip"  # what `_unpacked` reads
        if not _may_have_token(request.url, httpx.URL(self._endpoint)):
            request.headers.pop("authorization", None)

    def after_response(self, response: httpx.Response) -> None:
        """Put limits on a response's body, and drop a requested wait that is implausibly long."""
        asked = requested_wait(response)
        if asked is not None and asked > self._limits.longest_pause:
            response.extensions[_ASKED] = asked
            for name in ("retry-after", "ratelimit"):
                response.headers.pop(name, None)
        self._pace.learn(response)
        if response.request.method == "HEAD":
            return
        if not isinstance(response.stream, httpx.SyncByteStream):
            raise TypeError("the client is not synchronous")
        packing = response.headers.get("content-encoding", "identity").strip().lower()
        chunks = self._arriving(response.stream)
        if packing in {"gzip", "x-gzip"}:
            chunks = _unpacked(chunks)
            for name in ("content-encoding", "content-length"):  # they describe the packed body
                response.headers.pop(name, None)
        elif packing != "identity":
            raise UnusableAnswerError(f"a body packed as {packing[:40]!r}, which was not requested")
        if packing != "identity" or not response.is_success or self._is_api(response.url):
            chunks = self._no_more_than(chunks)
        if response.is_error:
            chunks = iter([_error_body(b"".join(chunks))])
        response.stream = _Body(chunks, response.stream.close)

    def _arriving(self, body: httpx.SyncByteStream) -> Iterator[bytes]:
        """The chunks as they arrive; only the time spent waiting for them counts."""
        chunks, received, waited = iter(body), 0, 0.0
        while True:
            before = time.monotonic()
            try:
                chunk = next(chunks, None)
            except (httpx.TimeoutException, httpx.RemoteProtocolError) as error:
                if received >= _PROGRESS:
                    raise
                # huggingface_hub resumes a download without limit if even one byte came; an error
                # it does not know is left to our own attempts, which are limited.
                raise httpx.ReadError(str(error) or type(error).__name__) from error
            if chunk is None:
                return
            waited += time.monotonic() - before
            received += len(chunk)
            with self._counting:
                self.received += len(chunk)
            if waited > self._timeout + received / self._limits.slowest:
                raise SlowAnswerError(
                    f"only {received} bytes of an answer came in {waited:.0f} seconds"
                )
            yield chunk

    def _no_more_than(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        length = 0
        for chunk in chunks:
            length += len(chunk)
            if length > self._limits.largest:
                raise UnusableAnswerError(
                    f"an answer of more than {self._limits.largest / 1e6:,.0f} MB"
                )
            yield chunk

    def _is_api(self, url: httpx.URL) -> bool:
        """Whether a URL is not a file's content, which can also be under `/api/resolve-cache/`."""
        if url.host != httpx.URL(self._endpoint).host:
            return False
        return "/api/" in url.path and "/api/resolve-cache/" not in url.path


def requested_wait(response: httpx.Response) -> float | None:
    """How long a server asks to wait (`RateLimit: …t=`, `Retry-After`), in seconds."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = response.headers.get("retry-after", "").strip()
    return float(asked) if asked.isascii() and asked.isdigit() else None


def dropped_wait(response: httpx.Response) -> float | None:
    """The implausibly long wait that a server asked for and that was dropped, in seconds."""
    asked = response.extensions.get(_ASKED)
    return None if asked is None else float(asked)


class _Body(httpx.SyncByteStream):
    """The body of a response, with limits."""

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._chunks, self._close = chunks, close

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._close()


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack a gzip body piece by piece, so that a zip bomb cannot fill the memory."""
    unpack, packed = zlib.decompressobj(_GZIP), False
    for chunk in chunks:
        packed = True
        while chunk:
            if unpack.eof:  # a further member
                unpack = zlib.decompressobj(_GZIP)
            try:
                piece = unpack.decompress(chunk, _PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(f"a body that is not gzip: {error}") from error
            chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
            if piece:
                yield piece
    if packed and not unpack.eof:
        raise httpx.ReadError("the gzip body is truncated")


def _error_body(content: bytes) -> bytes:
    """An error body that huggingface_hub can read: it fails on JSON other than an object."""
    try:
        return content if isinstance(json.loads(content), dict) else b""
    except ValueError:
        return content
    except RecursionError:
        return b""


def _may_have_token(url: httpx.URL, endpoint: httpx.URL) -> bool:
    """Whether a URL is on the endpoint, or on its TLS counterpart."""
    if url.origin == endpoint.origin:
        return True
    upgraded = (endpoint.scheme, url.scheme) == ("http", "https")
    return upgraded and url.host == endpoint.host and url.port is None and endpoint.port is None
