"""A simulated link of a given bandwidth and latency between the local Hub and its clients."""

import time
from dataclasses import dataclass, field

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TURNS = 50  # chunks per second over all responses together, so that they share the link


@dataclass
class Link:
    """An ASGI application behind a slow link, to see how a run behaves far away from the Hub.

    Attributes:
        app: the application.
        delay: seconds before a response begins.
        bytes_per_second: of all bodies together; None for unlimited.
    """

    app: ASGIApp
    delay: float = 0.0
    bytes_per_second: float | None = None
    _free_at: float = field(default=0.0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_slowly(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or self.bytes_per_second is None:
                await send(message)
                return
            step = max(1, int(self.bytes_per_second / _TURNS))
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                await self._pass(len(piece) / self.bytes_per_second)
                await send({"type": message["type"], "body": piece, "more_body": True})
            await send({**message, "body": b""})

        if scope["type"] == "http":
            await anyio.sleep(self.delay)
        await self.app(scope, receive, send_slowly)

    async def _pass(self, seconds: float) -> None:
        """Wait for earlier chunks, then occupy the link for this long."""
        now = time.monotonic()
        self._free_at = max(now, self._free_at) + seconds
        await anyio.sleep(self._free_at - now)
