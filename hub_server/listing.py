"""`GET /api/models`: selecting, sorting and paging repositories."""

import base64
import binascii
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from hubdelta.hub_server.access import Caller
from hubdelta.hub_server.entries import (
    LISTING_DEFAULT,
    LISTING_EXPANDABLE,
    LISTING_FULL,
    View,
    entry,
)
from hubdelta.hub_server.errors import BadRequest
from hubdelta.hub_server.repository import HubFolder, Repository

logger = logging.getLogger(__name__)

PAGE_ENTRIES = 1000
# Parameters of the Hub that would change the answer, but that a folder cannot support.
_NOT_OFFERED = ("apps", "inference", "inference_provider", "num_parameters")

_SORT_KEYS: Mapping[str, Callable[[Repository], float]] = {
    "createdAt": lambda repository: repository.created_at.timestamp(),
    "downloads": lambda repository: repository.settings.downloads,
    "lastModified": lambda repository: repository.last_modified.timestamp(),
    "likes": lambda repository: repository.settings.likes,
    "trendingScore": lambda repository: repository.settings.trending_score,
}


@dataclass(frozen=True)
class ListingQuery:
    """A listing's parameters, checked.

    Attributes:
        filters: tags that all must hold.
        author: the organization, or None for any.
        search: lower-case words that the name must contain.
        gated: only gated ones, only others, or both (None).
        pipeline_tag: the task, or None for any.
        sort: a key of `_SORT_KEYS`; descending, then ascending by `_id`.
        limit: entries per page.
        fields: of an entry.
        expanded: whether `expand` chose them.
        after: sort value and `_id` of the entry before the page, or None for the first page.
    """

    filters: tuple[str, ...]
    author: str | None
    search: tuple[str, ...]
    gated: bool | None
    pipeline_tag: str | None
    sort: str
    limit: int
    fields: tuple[str, ...]
    expanded: bool
    after: tuple[float, str] | None

    @classmethod
    def parse(cls, query: QueryParams) -> "ListingQuery":
        """Parse the query of a request.

        Raises:
            BadRequest: if the Hub answers 400, or if the answer would be wrong.
        """
        for name in _NOT_OFFERED:
            if name in query:
                raise BadRequest(f'"{name}" is not offered by this local Hub')
        sort = query.get("sort", "trendingScore")
        if sort not in _SORT_KEYS:
            raise BadRequest(f'"sort" must be one of [{", ".join(_SORT_KEYS)}]')
        expand = expand_of(query, LISTING_EXPANDABLE)
        shapes = [name for name in ("full", "cardData", "config") if flag(query, name)]
        if expand and shapes:
            raise BadRequest(f'"expand" cannot be used together with "{shapes[0]}"')
        fields = LISTING_FULL if "full" in shapes else LISTING_DEFAULT
        return cls(
            filters=tuple(query.getlist("filter")),
            author=query.get("author"),
            search=tuple(query.get("search", "").lower().split()),
            gated=flag(query, "gated"),
            pipeline_tag=query.get("pipeline_tag"),
            sort=sort,
            limit=page_limit(query, PAGE_ENTRIES),
            fields=expand or (*fields, *(name for name in shapes if name != "full")),
            expanded=bool(expand),
            after=_after(query.get("cursor")),
        )

    def accepts(self, repository: Repository, current_name: Callable[[str], str]) -> bool:
        """Whether a repository belongs to the answer."""
        gated = repository.settings.gated is not False
        name = repository.id.lower()
        metadata = repository.current.metadata
        return (
            (self.author is None or self.author == repository.author)
            and (self.gated is None or self.gated == gated)
            and all(word in name for word in self.search)
            and (self.pipeline_tag is None or self.pipeline_tag == metadata.pipeline_tag)
            and (not self.filters or set(self.filters) <= set(metadata.tags(current_name)))
        )


def list_models(
    hub: HubFolder, caller: Caller, query: ListingQuery
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of the listing, and the cursor of the next (None after the last).

    A cursor is a place in the sort order, not a number of entries: a repository that moves past it
    between two pages is skipped or repeated, as on the real Hub.
    """
    value = _SORT_KEYS[query.sort]
    current_name = functools.cache(hub.current_name)
    ranked = sorted(
        (
            ((-value(repository), repository.internal_id), repository)
            for repository in _readable(hub.all())
            if repository.settings.renamed_to is None
            and caller.sees(repository)
            and query.accepts(repository, current_name)
        ),
        key=lambda item: item[0],
    )
    if query.after is not None:
        after = (-query.after[0], query.after[1])
        ranked = [item for item in ranked if item[0] > after]
    page = []
    for _, repository in ranked[: query.limit]:
        try:
            view = View(hub, caller, repository, repository.current, current_name)
            page.append(entry(view, query.fields, expanded=query.expanded))
        except OSError as error:  # one unreadable file must not break the listing
            logger.error("skipped in a listing: %s: %s", repository.id, error)
    if len(ranked) <= query.limit:
        return page, None
    (negated, internal_id), _ = ranked[query.limit - 1]
    return page, _cursor(-negated, internal_id)


def expand_of(query: QueryParams, allowed: frozenset[str]) -> tuple[str, ...]:
    """The fields that `expand` (or `expand[]`) requests, each once.

    Raises:
        BadRequest: for a field that is not allowed here.
    """
    fields = tuple(dict.fromkeys([*query.getlist("expand"), *query.getlist("expand[]")]))
    for name in fields:
        if name not in allowed:
            raise BadRequest(f'"expand" must be one of [{", ".join(sorted(allowed))}], not {name}')
    return fields


def flag(query: QueryParams, name: str) -> bool | None:
    """A boolean parameter of the query; None if absent.

    Raises:
        BadRequest: for any other word.
    """
    word = query.get(name)
    if word is None:
        return None
    if word.lower() in ("true", "1"):
        return True
    if word.lower() in ("false", "0", ""):
        return False
    raise BadRequest(f'"{name}" must be a boolean')


def page_limit(query: QueryParams, most: int) -> int:
    """How many entries a page holds: `limit`, up to `most`.

    Raises:
        BadRequest: when it is not a positive number.
    """
    word = query.get("limit", str(most))
    if not (word.isascii() and word.isdigit() and 0 < len(word) < 10 and int(word) > 0):
        raise BadRequest('"limit" must be a positive number')
    return min(int(word), most)


def _readable(repositories: Sequence[Repository]) -> list[Repository]:
    readable = []
    for repository in repositories:
        try:
            _ = repository.current.metadata
        except OSError as error:
            logger.error("skipped in a listing: %s: %s", repository.id, error)
        else:
            readable.append(repository)
    return readable


def _cursor(value: float, internal_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([value, internal_id]).encode()).decode()


def _after(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    try:
        value, internal_id = json.loads(base64.urlsafe_b64decode(cursor))
        return float(value), str(internal_id)
    except (binascii.Error, ValueError, TypeError) as error:
        raise BadRequest('"cursor" was not issued by this Hub') from error
