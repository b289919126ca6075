"""A local Hub that goes wrong as a test says, per path pattern and number of requests."""

import fnmatch
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubdelta.hub_server import LocalHub


@dataclass
class Fault:
    """One way of going wrong. Several fields may be combined, as a delay with a status.

    Attributes:
        path: pattern of `fnmatch` for the decoded path, as `/api/models` or `*/resolve-cache/*`.
        method: of HTTP, or None for any.
        times: how many requests it hits, or None for all that follow.
        after: how many matching requests go well before.
        status: answered instead of the real answer, as 429, 503 or 504.
        reset: seconds until the rate limit ends, in the headers of a 429.
        delay: seconds before the answer begins; longer than the client's patience is a timeout.
        cut_after: bytes of the body after which the connection is closed.
        bytes_per_second: of the body.
        body: sent in place of the real one, with its length, and with status 200 if `status` is
            not given.
        headers: set in place of the real ones of these names, in small letters; None leaves one
            out.
        no_ranges: the whole file is sent, whichever part was asked for.
        before_answer: called when the answer stands and before it is sent: what it changes in the
            folder is seen by the next request and not by this one.
    """

    path: str
    method: str | None = None
    times: int | None = 1
    after: int = 0
    status: int | None = None
    reset: int = 1
    delay: float = 0.0
    cut_after: int | None = None
    bytes_per_second: float | None = None
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    no_ranges: bool = False
    before_answer: Callable[[], object] | None = None
    _seen: int = field(default=0, repr=False)


class Faults:
    """The faults of one Hub; they can be added and cleared while it runs."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = list(faults)
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Let one more thing go wrong from now on."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._faults.clear()

    def hit(self, method: str, path: str) -> list[Fault]:
        """Count a request, and say which faults it meets."""
        with self._lock:
            return [fault for fault in self._faults if _hits(fault, method, path)]


def _hits(fault: Fault, method: str, path: str) -> bool:
    if fault.method not in (None, method) or not fnmatch.fnmatchcase(path, fault.path):
        return False
    fault._seen += 1
    number = fault._seen - fault.after
    return number > 0 and (fault.times is None or number <= fault.times)


class _ConnectionCutError(Exception):
    """Leaves the application in the middle of a body."""


class FaultMiddleware:
    """Stands between the wire and the application, and spoils what the faults say."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, well or badly."""
        faults = self.faults.hit(scope["method"], scope["path"]) if scope["type"] == "http" else []
        for fault in faults:
            if fault.delay:
                await anyio.sleep(fault.delay)
            if fault.no_ranges:
                kept = [header for header in scope["headers"] if header[0] != b"range"]
                scope = {**scope, "headers": kept}
            send = _spoiled(send, fault)
        app = next((_status_answer(fault) for fault in faults if fault.status), self.app)
        try:
            await app(scope, receive, send)
        except _ConnectionCutError:
            # Returning with the body unfinished makes the server close the connection.
            return


class FaultyHub(LocalHub):
    """A local Hub whose `faults` can be added to while it runs."""

    def __init__(self, folder: Path, *, faults: Faults | None = None) -> None:
        self.faults = faults if faults is not None else Faults()
        super().__init__(folder, middleware=[Middleware(FaultMiddleware, faults=self.faults)])

    def __exit__(self, *error: object) -> None:
        """Stop serving, in a moment: to wait for it would take longer than most tests."""
        self._server.should_exit = True


def _status_answer(fault: Fault) -> JSONResponse:
    status = fault.status or 503
    headers = {}
    if status == 429:
        headers["RateLimit"] = f'"api";r=0;t={fault.reset}'
    return JSONResponse({"error": f"A fault of this test Hub: {status}"}, status, headers)


def _spoiled(send: Send, fault: Fault) -> Send:
    sent, replaced = 0, False

    async def spoil(message: Message) -> None:
        nonlocal sent, replaced
        if message["type"] == "http.response.start":
            if fault.before_answer is not None:
                await anyio.to_thread.run_sync(fault.before_answer)
            status = message["status"] if fault.body is None else fault.status or 200
            headers = _headers(fault, message["headers"])
            await send({**message, "status": status, "headers": headers})
            return
        body = message.get("body", b"")
        if fault.body is not None:
            if replaced:
                return
            replaced = True
            body, message = fault.body, {"type": message["type"], "more_body": False}
        if fault.bytes_per_second is not None:
            step = max(1, int(fault.bytes_per_second / 20))
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                await anyio.sleep(len(piece) / fault.bytes_per_second)
                await send({"type": message["type"], "body": piece, "more_body": True})
            body = b""
        if fault.cut_after is not None and sent + len(body) > fault.cut_after:
            piece = body[: fault.cut_after - sent]
            await send({"type": message["type"], "body": piece, "more_body": True})
            raise _ConnectionCutError
        sent += len(body)
        await send({**message, "body": body})

    return spoil


def _headers(fault: Fault, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    changed = dict(fault.headers)
    if fault.body is not None:
        changed = {"content-length": str(len(fault.body)), **changed}
    kept = [header for header in headers if header[0].decode() not in changed]
    new = [(name.encode(), text.encode()) for name, text in changed.items() if text is not None]
    return kept + new
