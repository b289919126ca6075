"""Who is calling, and what they may see."""

import hmac
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from hubdelta.hub_server.errors import WrongToken
from hubdelta.hub_server.repository import Repository
from hubdelta.hub_server.settings import ServerSettings


@dataclass(frozen=True)
class Caller:
    """The sender of a request.

    Attributes:
        anonymous: no token was sent, or this Hub has none configured.
        grants: organizations and `org/name`s that the token opens, `*` for all.
    """

    anonymous: bool
    grants: frozenset[str] = frozenset()

    def is_trusted_with(self, repository: Repository) -> bool:
        """Whether the token opens a repository that is private or gated."""
        return not self.grants.isdisjoint({"*", repository.author, repository.id})

    def sees(self, repository: Repository) -> bool:
        """Whether a repository exists for this caller."""
        return not repository.settings.private or self.is_trusted_with(repository)


def caller_of(connection: HTTPConnection, settings: ServerSettings) -> Caller:
    """The sender of a request, by its bearer token.

    If no token is configured, every caller is anonymous: the client may send a token for another
    Hub unasked, and that must not lock its owner out.

    Raises:
        WrongToken: for a token that is not configured, on public repositories too, as the Hub.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if not settings.tokens or scheme.lower() != "bearer" or not token.strip():
        return Caller(anonymous=True)
    sent = token.strip().encode()
    found: frozenset[str] | None = None
    for known, grants in settings.tokens.items():
        if hmac.compare_digest(known.encode(), sent):
            found = grants
    if found is None:
        raise WrongToken
    return Caller(anonymous=False, grants=found)
