"""The routes of the local Hub: read a request, check the caller, answer in JSON or bytes."""

import base64
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hubdelta.hub_server import listing, tree
from hubdelta.hub_server.access import Caller, caller_of
from hubdelta.hub_server.entries import (
    EXPANDABLE,
    INFO_DEFAULT,
    View,
    entry,
    siblings_with_blobs,
)
from hubdelta.hub_server.errors import (
    BadRequest,
    DisabledRepo,
    EntryNotFound,
    GatedRepo,
    Moved,
    Refusal,
    RepoNotFound,
    RevisionNotFound,
)
from hubdelta.hub_server.repository import HubFolder, Repository
from hubdelta.hub_server.settings import SettingsError
from hubdelta.hub_server.snapshot import Snapshot
from hubdelta.hub_server.wire import RequestRecord, WireMiddleware

logger = logging.getLogger(__name__)

# What may precede a repository's name in a path.
_REPOSITORY_PREFIXES = ("/api/models/", "/api/resolve-cache/models/", "/")
_FORM_BYTES = 4 * 1024 * 1024
_FORM_FIELDS = 10_000


class _FileAnswer(FileResponse):
    """Reads in large chunks: one thread switch per megabyte keeps a fast network busy."""

    chunk_size = 1024 * 1024


def create_app(
    folder: Path,
    *,
    records: list[RequestRecord] | None = None,
    rescan_seconds: float = 0.0,
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """The read-only Hub for a folder of repositories, as an ASGI application.

    Args:
        folder: DIR, with repositories at DIR/org/name/.
        records: where each request is recorded; for tests.
        rescan_seconds: how old the list of repositories may be in a listing. Answers about a single
            repository are always read fresh.
        middleware: wrapped around the routes; for tests.

    Raises:
        UsageError: when the folder does not exist or its `.hub.yaml` cannot be understood.
    """
    hub = HubFolder(folder, rescan_seconds=rescan_seconds)
    routes = _Routes(hub)
    repo = "/api/models/{org}/{name}"
    app = Starlette(
        routes=[
            Route("/", routes.welcome),
            Route("/api/models", routes.list_models),
            Route(repo, routes.model_info),
            Route(repo + "/revision/{revision:path}", routes.model_info),
            Route(repo + "/tree/{revision}", routes.tree),
            Route(repo + "/tree/{revision}/{path:path}", routes.tree),
            Route(repo + "/paths-info/{revision:path}", routes.paths_info, methods=["POST"]),
            Route("/{org}/{name}/resolve/{revision}/{path:path}", routes.resolve),
            Route("/api/resolve-cache/models/{org}/{name}/{revision}/{path:path}", routes.content),
        ],
        middleware=[
            Middleware(WireMiddleware, records=records),
            *middleware,
        ],
        exception_handlers={
            Refusal: _refused,
            OSError: _unreadable,
            SettingsError: _unreadable,
            HTTPException: _no_route,
        },
    )
    app.state.hub = hub
    return app


class _Routes:
    """The endpoints. Plain functions, which Starlette runs in threads, since they read files."""

    def __init__(self, hub: HubFolder) -> None:
        self.hub = hub

    def welcome(self, request: Request) -> Response:
        return PlainTextResponse(
            f"hubdelta serve-hub: a read-only Hub. Set HF_ENDPOINT={_origin(request)}\n"
        )

    def list_models(self, request: Request) -> Response:
        caller = caller_of(request, self.hub.settings())
        query = listing.ListingQuery.parse(request.query_params)
        page, cursor = listing.list_models(self.hub, caller, query)
        return _json(page, _link(request, cursor))

    def model_info(self, request: Request) -> Response:
        caller, repository, snapshot = self._open(request)
        query = request.query_params
        expand = listing.expand_of(query, EXPANDABLE)
        blobs = listing.flag(query, "blobs")
        if expand and (blobs or listing.flag(query, "securityStatus")):
            raise BadRequest('"expand" cannot be used together with "blobs" or "securityStatus"')
        view = View(self.hub, caller, repository, snapshot, self.hub.current_name)
        values = entry(view, expand or INFO_DEFAULT, expanded=bool(expand))
        if blobs:
            values["siblings"] = siblings_with_blobs(view)
        return _json(values)

    def tree(self, request: Request) -> Response:
        _, repository, snapshot = self._open(request)
        query = request.query_params
        expand = listing.flag(query, "expand") or False
        paths = tree.tree_paths(
            snapshot,
            request.path_params.get("path", ""),
            recursive=listing.flag(query, "recursive") or False,
        )
        most = tree.EXPANDED_PAGE_ENTRIES if expand else tree.PAGE_ENTRIES
        page, cursor = tree.tree_page(paths, listing.page_limit(query, most), query.get("cursor"))
        entries = tree.tree_entries(repository, snapshot, page, expand=expand)
        return _json(entries, _link(request, cursor))

    async def paths_info(self, request: Request) -> Response:
        paths, expand = _paths_form(request, await _body(request))

        def answer() -> Response:
            _, repository, snapshot = self._open(request)
            return _json(tree.tree_entries(repository, snapshot, paths, expand=expand))

        return await run_in_threadpool(answer)

    def resolve(self, request: Request) -> Response:
        """Where a file's bytes are (302 for git-lfs, 307 for git), with headers for caching."""
        _, repository, snapshot = self._open(request, for_files=True)
        path = request.path_params["path"]
        if path not in snapshot.files:
            raise EntryNotFound(path, snapshot.sha)
        blob = snapshot.blob(path)
        query = urlencode(
            {request.url.path: "", "etag": f'"{blob.etag}"'}, quote_via=quote, safe=""
        )
        location = f"/api/resolve-cache/models/{repository.id}/{snapshot.sha}/{path}"
        headers = {
            "Location": f"{quote(location)}?{query}",
            "X-Repo-Commit": snapshot.sha,
            "X-Linked-Etag": f'"{blob.etag}"',
        }
        if blob.sha256 is not None:
            headers["X-Linked-Size"] = str(blob.size)
        status = 307 if blob.sha256 is None else 302
        return PlainTextResponse("Redirecting", status, headers)

    def content(self, request: Request) -> Response:
        """The bytes of a file at a commit, whole or by Range."""
        _, _, snapshot = self._open(request, for_files=True)
        path = request.path_params["path"]
        if path not in snapshot.files:
            raise EntryNotFound(path, snapshot.sha)
        blob, file = snapshot.blob(path), snapshot.files[path]
        headers = {
            "ETag": f'"{blob.etag}"',
            "X-Repo-Commit": snapshot.sha,
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(path.rpartition('/')[2])}",
        }
        # Never text/html: a repository's page must not run in a browser under this origin.
        kind = "text/plain; charset=utf-8" if blob.sha256 is None else "application/octet-stream"
        return _FileAnswer(
            file.place, headers=headers, media_type=kind, stat_result=file.place.stat()
        )

    def _open(
        self, request: Request, *, for_files: bool = False
    ) -> tuple[Caller, Repository, Snapshot]:
        """The repository and commit that a path names, if the caller may see them."""
        caller = caller_of(request, self.hub.settings())
        repo_id = f"{request.path_params['org']}/{request.path_params['name']}"
        repository = self.hub.get(repo_id)
        if repository is None or not caller.sees(repository):
            raise RepoNotFound(anonymous=caller.anonymous)
        if repository.settings.renamed_to is not None:
            raise self._moved(request, caller, repository)
        if repository.settings.disabled:
            raise DisabledRepo
        if for_files and repository.settings.gated and not caller.is_trusted_with(repository):
            raise GatedRepo(repository.id, anonymous=caller.anonymous)
        revision = request.path_params.get("revision", "main")
        snapshot = self.hub.commit(repository, revision)
        if snapshot is None:
            raise RevisionNotFound(revision)
        return caller, repository, snapshot

    def _moved(self, request: Request, caller: Caller, repository: Repository) -> Refusal:
        new = self.hub.get(self.hub.current_name(repository.id))
        if new is None or new.id == repository.id or not caller.sees(new):
            return RepoNotFound(anonymous=caller.anonymous)
        path, query = request.scope["path"], request.scope["query_string"].decode("latin-1")
        prefix = next(start for start in _REPOSITORY_PREFIXES if path.startswith(start))
        location = quote(f"{prefix}{new.id}{path.removeprefix(prefix + repository.id)}")
        return Moved(f"{location}?{query}" if query else location)


def _json(content: Any, headers: Mapping[str, str] | None = None) -> Response:
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    # Length and hash, as the Hub's framework (Express) makes weak ETags.
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()[:27]
    etag = {"ETag": f'W/"{len(body):x}-{digest}"'}
    return Response(
        body, headers={**etag, **(headers or {})}, media_type="application/json; charset=utf-8"
    )


def _link(request: Request, cursor: str | None) -> dict[str, str]:
    """The Link header to the next page: this request's URL with another cursor."""
    if cursor is None:
        return {}
    sent = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = urlencode([pair for pair in sent if pair[0] != "cursor"] + [("cursor", cursor)])
    return {"Link": f'<{_origin(request)}{_raw_path(request)}?{query}>; rel="next"'}


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _raw_path(request: Request) -> str:
    return str(request.scope["raw_path"].decode("latin-1"))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _FORM_BYTES:
            raise BadRequest("the list of paths is too long")
    return bytes(body)


def _paths_form(request: Request, body: bytes) -> tuple[list[str], bool]:
    """The fields `paths` and `expand` of a form, or of a JSON object."""
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            form = json.loads(body)
            paths, expand = form["paths"], str(form.get("expand", ""))
        else:
            fields = parse_qs(body.decode(), max_num_fields=_FORM_FIELDS)
            paths, expand = fields.get("paths", []), fields.get("expand", [""])[0]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadRequest('"paths" must be a list of paths') from error
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise BadRequest('"paths" must be a list of paths')
    return paths, expand.lower() in ("true", "1")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for nothing else
    return error.response()


def _unreadable(request: Request, error: Exception) -> Response:
    logger.error("%s: %s", _raw_path(request), error)
    return JSONResponse({"error": "This Hub cannot read its files; its log says which."}, 500)


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    if request.method not in ("GET", "HEAD"):
        return JSONResponse({"error": "This Hub is read-only."}, 405)
    if request.url.path.startswith("/api/models/"):  # a name without an organization
        return RepoNotFound(anonymous=True).response()
    message = "This local Hub serves models only; it does not have this address."
    return JSONResponse({"error": message}, error.status_code)
