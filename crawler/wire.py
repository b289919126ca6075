"""What one answer may cost: time, bytes and pauses, whoever reads it. Installed in the client."""

import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from huggingface_hub.utils import httpx, parse_ratelimit_headers

_PROGRESS: Final = 1_000_000  # bytes of a broken answer that are worth taking it up again for
_PIECE: Final = 1 << 20  # bytes, the most that are unpacked at once
_GZIP: Final = 16 + zlib.MAX_WBITS
_ASKED: Final = "hubdelta_asked_wait"


class SlowAnswerError(httpx.ReadError):
    """An answer that would take for ever. huggingface_hub does not take it up again by itself."""


class UnusableAnswerError(ValueError):
    """An answer that no Hub gives; the text says what is wrong with it."""


class WrongAnswerError(OSError):
    """Another part, of another file or another commit, than was asked for: worth asking again."""


@dataclass(frozen=True)
class Limits:
    """What an answer may cost.

    Attributes:
        slowest: bytes a second that a body has to bring on average, after a first timeout's worth
            of patience. At less than the default, an ordinary adapter takes an hour.
        largest: bytes of an answer that is no file's content, or that arrives compressed. A page
            of 1000 models has several million.
        longest_pause: seconds that a server may ask to wait. The Hub's windows have 300, so more
            than two of them are a mistake: the request is repeated as if it had not asked.
    """

    slowest: float = 10_000
    largest: int = 100_000_000
    longest_pause: float = 600.0


class Wire:
    """Event hooks of one client, and what they count. Safe in threads.

    Attributes:
        sent: requests; every redirect that is followed is one.
        received: bytes of bodies, as they came over the network.
    """

    def __init__(self, endpoint: str, timeout: float, limits: Limits) -> None:
        self.sent = self.received = 0
        self._endpoint, self._timeout, self._limits = endpoint, timeout, limits
        self._counting = threading.Lock()

    def before_request(self, request: httpx.Request) -> None:
        """Give a request its timeout, and keep the token from all servers but the endpoint's."""
        with self._counting:
            self.sent += 1
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
        """Watch over the body of an answer, and drop a wait that is too long to be meant."""
        asked = asked_wait(response)
        if asked is not None and asked > self._limits.longest_pause:
            response.extensions[_ASKED] = asked
            for name in ("retry-after", "ratelimit"):
                response.headers.pop(name, None)
        if response.request.method == "HEAD":
            return
        if not isinstance(response.stream, httpx.SyncByteStream):
            raise TypeError("the client is not one for threads")
        packing = response.headers.get("content-encoding", "identity").strip().lower()
        chunks = self._arriving(response.stream)
        if packing in {"gzip", "x-gzip"}:
            chunks = _unpacked(chunks)
            for name in ("content-encoding", "content-length"):  # they are of the packed body
                response.headers.pop(name, None)
        elif packing != "identity":
            raise UnusableAnswerError(f"a body packed as {packing[:40]!r}, which was not asked for")
        if packing != "identity" or not response.is_success or self._is_api(response.url):
            chunks = self._no_more_than(chunks)
        if response.is_error:
            chunks = iter([_error_body(b"".join(chunks))])
        response.stream = _Body(chunks, response.stream.close)

    def _arriving(self, body: httpx.SyncByteStream) -> Iterator[bytes]:
        """The chunks as they arrive; only the time spent in waiting for them counts."""
        chunks, received, waited = iter(body), 0, 0.0
        while True:
            before = time.monotonic()
            try:
                chunk = next(chunks, None)
            except (httpx.TimeoutException, httpx.RemoteProtocolError) as error:
                if received >= _PROGRESS:
                    raise
                # huggingface_hub takes a download up again as often as a single byte came; what it
                # does not know it leaves to our attempts, which end.
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
        """Whether an answer is no file's content, which also lies in `/api/resolve-cache/`."""
        if url.host != httpx.URL(self._endpoint).host:
            return False
        return "/api/" in url.path and "/api/resolve-cache/" not in url.path


def asked_wait(response: httpx.Response) -> float | None:
    """How long a server asks to wait (`RateLimit: …t=`, `Retry-After`), in seconds."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = response.headers.get("retry-after", "").strip()
    return float(asked) if asked.isascii() and asked.isdigit() else None


def dropped_wait(response: httpx.Response) -> float | None:
    """The wait that a server asked for and that was too long to be meant, in seconds."""
    asked = response.extensions.get(_ASKED)
    return None if asked is None else float(asked)


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it is watched over."""

    def __init__(self, chunks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._chunks, self._close = chunks, close

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._close()


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """A gzip body, never more of it in memory at once than a piece: a bomb does not go off."""
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
        raise httpx.ReadError("the body ends in the middle of what is packed")


def _error_body(content: bytes) -> bytes:
    """The body of an error as huggingface_hub can read it: it trips over JSON but an object's."""
    try:
        return content if isinstance(json.loads(content), dict) else b""
    except ValueError:
        return content
    except RecursionError:
        return b""


def _may_have_token(url: httpx.URL, endpoint: httpx.URL) -> bool:
    """Whether a URL is the endpoint's own, or its own over TLS."""
    if url.origin == endpoint.origin:
        return True
    upgraded = (endpoint.scheme, url.scheme) == ("http", "https")
    return upgraded and url.host == endpoint.host and url.port is None and endpoint.port is None
