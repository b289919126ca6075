"""The Hub's error responses: status, X-Error-Code and X-Error-Message, as its client reads them.

Refusal
├── BadRequest             400
├── WrongToken             401  a bearer token that is not configured
├── RepoNotFound           401 to an anonymous caller, 404 to a known one: missing or hidden
├── GatedRepo              401 / 403 in the same way
├── DisabledRepo           403
├── RevisionNotFound       404
├── EntryNotFound          404
└── Moved                  307  a renamed repository
"""

from urllib.parse import quote

from starlette.responses import JSONResponse


class Refusal(Exception):  # noqa: N818 - a response, and mostly not an error of ours
    """A response other than the requested one.

    Attributes:
        status: HTTP status.
        message: what the body says; `X-Error-Message` repeats it unless `headers` has its own.
        headers: by which the client distinguishes the kinds.
    """

    status = 400

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """The response to send."""
        # A header is one line of latin-1, while a message may quote any path.
        headers = {"X-Error-Message": _header_text(self.message)} | self.headers
        return JSONResponse({"error": self.message}, self.status, headers)


class BadRequest(Refusal):
    """A query that the Hub rejects, or that this server cannot answer."""


class WrongToken(Refusal):
    """The header lets the client distinguish a wrong token from a missing repository."""

    status = 401

    def __init__(self) -> None:
        super().__init__(
            "Invalid username or password.",
            {"X-Error-Message": "Invalid credentials in Authorization header"},
        )


class RepoNotFound(Refusal):
    """Missing, private and hidden look alike.

    The real Hub omits X-Error-Code from this 401, and its client then relies on `https://`, which a
    local server does not use; so here the code is always sent.
    """

    def __init__(self, *, anonymous: bool) -> None:
        self.status = 401 if anonymous else 404
        super().__init__(
            "Invalid username or password." if anonymous else "Repository not found",
            {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
        )


class GatedRepo(Refusal):
    """The files of a gated repository, requested without permission."""

    def __init__(self, repo_id: str, *, anonymous: bool) -> None:
        self.status = 401 if anonymous else 403
        why = (
            "You must have access to it and be authenticated to access it. Please log in."
            if anonymous
            else "You are not in the authorized list."
        )
        super().__init__(
            f"Access to model {repo_id} is restricted. {why}", {"X-Error-Code": "GatedRepo"}
        )


class DisabledRepo(Refusal):
    """The client recognizes it by this exact message."""

    status = 403

    def __init__(self) -> None:
        super().__init__("Access to this resource is disabled.")


class RevisionNotFound(Refusal):
    """Neither main, nor the current commit, nor a kept one."""

    status = 404

    def __init__(self, revision: str) -> None:
        super().__init__(f"Invalid rev id: {revision}", {"X-Error-Code": "RevisionNotFound"})


class EntryNotFound(Refusal):
    """No such path at a commit; the client caches that under the commit in the header."""

    status = 404

    def __init__(self, path: str, commit: str) -> None:
        super().__init__(
            f"Entry not found: {path}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
        )


class Moved(Refusal):
    """A renamed repository; the client follows Location on the same origin."""

    status = 307

    def __init__(self, location: str) -> None:
        super().__init__(f"Temporary Redirect. Redirecting to {location}", {"Location": location})


def _header_text(message: str) -> str:
    return quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")
