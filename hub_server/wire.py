"""For every response: the Hub's common headers, and a record of the request."""

import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

_TRACE_ID = re.compile(r"[\w=;.-]{1,128}", re.ASCII)
_COMMON_HEADERS = {
    "X-Powered-By": "hubdelta serve-hub",
    "Vary": "Origin",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "cross-origin-opener-policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class RequestRecord:
    """One request and its outcome; filled in while the response is sent.

    Attributes:
        path: decoded.
        query: pairs, decoded, in the order sent.
        headers: as received, lower-case; tokens are replaced by `***`.
        status: HTTP status; 0 until a response begins.
        bytes: bytes of the body sent.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    status: int = 0
    bytes: int = 0
    started: float = field(default_factory=time.monotonic, repr=False)


class WireMiddleware:
    """Adds the common headers and keeps the records.

    Args:
        records: where to append them, for tests; None keeps none.
    """

    def __init__(self, app: ASGIApp, records: list[RequestRecord] | None = None) -> None:
        self.app = app
        self.records = records

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = dict(Headers(scope=scope))
        if "authorization" in received:
            received["authorization"] = f"{received['authorization'].partition(' ')[0]} ***"
        record = RequestRecord(
            scope["method"],
            scope["path"],
            parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True),
            received,
        )
        if self.records is not None:
            self.records.append(record)

        async def send_with_headers(message: Message) -> None:
            # Counted before it is sent, so that a test that has the response finds the record.
            if message["type"] == "http.response.start":
                record.status = message["status"]
                _add_headers(MutableHeaders(scope=message), record)
            else:
                record.bytes += len(message.get("body", b"")) if record.method != "HEAD" else 0
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            # The raw path, which is still percent-encoded and cannot forge a log line.
            logger.info(
                "%s %s %d %d bytes %.3f s",
                record.method,
                scope["raw_path"].decode("latin-1"),
                record.status,
                record.bytes,
                time.monotonic() - record.started,
            )


def _add_headers(headers: MutableHeaders, record: RequestRecord) -> None:
    for name, value in _COMMON_HEADERS.items():
        headers.setdefault(name, value)
    trace = record.headers.get("x-amzn-trace-id", "")
    if not _TRACE_ID.fullmatch(trace):
        trace = str(uuid.uuid4())
    headers.setdefault(
        "X-Request-Id", f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};{trace}"
    )
    # An anonymous caller's quota on the real Hub, which this server never counts down.
    if "/resolve" in record.path:
        kind, quota = "resolvers", 3000
    else:
        kind, quota = "api", 500
    headers.setdefault("RateLimit", f'"{kind}";r={quota};t=300')
    headers.setdefault("RateLimit-Policy", f'"fixed window";"{kind}";q={quota};w=300')
