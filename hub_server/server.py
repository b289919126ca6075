"""The local Hub as a running server: in a thread for a test, or in the foreground for a cluster."""

import logging
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import uvicorn
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from hubdelta.hub_server.app import create_app
from hubdelta.hub_server.link import Link
from hubdelta.hub_server.repository import HubFolder, folders_in
from hubdelta.hub_server.wire import RequestRecord
from hubdelta.schemas.errors import ListeningError, UsageError

logger = logging.getLogger(__name__)

# How old listings of a large folder may be: scanning 10,000 repositories takes about a second.
_RESCAN_SECONDS = 2.0
# Longer than clients keep an idle connection, so that they close it, not we.
_KEEP_ALIVE_SECONDS = 75
_START_SECONDS = 30


class LocalHub:
    """A Hub in a thread, on a free port of this machine, while the context lasts.

    Attributes:
        url: the value for HF_ENDPOINT, or a client's `endpoint`.
        requests: every request so far, without tokens.
    """

    def __init__(self, folder: Path, *, middleware: Sequence[Middleware] = ()) -> None:
        self.folder = folder
        self.requests: list[RequestRecord] = []
        self._app = create_app(folder, records=self.requests, middleware=middleware)

    def __enter__(self) -> Self:
        """Start serving.

        Raises:
            ListeningError: when the server does not come up.
        """
        listener = _listen("127.0.0.1", 0)
        self.url = _url(listener)
        self._server = _server(self._app, graceful_seconds=1)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, daemon=True, name="local-hub"
        )
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop serving; a pending response has a second to finish."""
        self._server.should_exit = True
        self._thread.join(_START_SECONDS)


def serve(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    delay: float = 0.0,
    bytes_per_second: float | None = None,
) -> None:
    """Serve a folder of repositories until interrupted; its URL is the first line printed.

    Args:
        folder: DIR, with repositories at DIR/org/name/.
        host: address to listen at.
        port: TCP port; 0 takes a free one.
        delay: seconds before each response begins.
        bytes_per_second: of all responses together; None for unlimited.

    Raises:
        UsageError: when the folder does not exist, is a repository itself, or its `.hub.yaml`
            cannot be understood.
        ListeningError: when the address cannot be listened at.
    """
    _check_repositories(folder)
    app = create_app(folder, rescan_seconds=_RESCAN_SECONDS)
    listener = _listen(host, port)
    # Connections are queued from here on, so the printed line may be acted on at once.
    print(_url(listener), flush=True)
    threading.Thread(target=_hash_all, args=[app.state.hub], daemon=True, name="hash").start()
    _server(Link(app, delay, bytes_per_second), graceful_seconds=5).run(sockets=[listener])


def _check_repositories(named: Path) -> None:
    """Reject a folder that is a repository, and warn if there is nothing to serve yet.

    Raises:
        UsageError: it is one, or holds repositories one level too high.
    """
    folder = named.resolve()
    if _is_repository(folder):
        raise UsageError(
            f"{named} is a repository itself: serve the folder that holds it as ORG/NAME, "
            f"which is {folder.parent.parent} if it is to be called "
            f"{folder.parent.name}/{folder.name}"
        )
    orgs = folders_in(folder)
    if any(folders_in(folder / org) for org in orgs):
        return
    if any(_is_repository(folder / name) for name in orgs):
        raise UsageError(
            f"{named} holds repositories as NAME, not as ORG/NAME: serve {folder.parent}, "
            f"where they are called {folder.name}/NAME"
        )
    logger.warning("nothing to serve yet: %s holds no repository as ORG/NAME", named)


def _is_repository(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("adapter_config.json", "config.json"))


def _hash_all(hub: HubFolder) -> None:
    """Hash every commit before a listing needs it: a client would not wait for terabytes."""
    for repository in hub.all():
        try:
            logger.debug("%s is at %s", repository.id, repository.current.sha)
        except OSError as error:
            logger.error("cannot be read: %s: %s", repository.id, error)
    logger.info("all commits are hashed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number is not None and number > 0 else error
        raise ListeningError(f"cannot listen at {host} port {port}: {why}") from error
    # asyncio sets it only on sockets that name their protocol; without it, the body of a small
    # response waits 40 ms after its headers. Accepted connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _server(app: ASGIApp, *, graceful_seconds: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=graceful_seconds,
        )
    )
