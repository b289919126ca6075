"""Walk down a listing of the Hub, page by page, through the configured endpoint."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit

from huggingface_hub.utils import httpx

from hubdelta.crawler.wire import UnusableAnswerError
from hubdelta.schemas.errors import printable

_MOST_IDLE: Final = 10  # consecutive pages that show nothing new


def walk_pages(
    get: Callable[[str], tuple[list[object], str | None]], parameters: Mapping[str, object]
) -> Iterator[object]:
    """The entries of a listing; pages are lazy.

    Args:
        get: fetches the page of a query, and the link to the next one if there is one.
        parameters: of the first query; they apply to every page.

    Raises:
        UnusableAnswerError: the pages have no end.
    """
    query: str | None = urlencode(parameters, doseq=True)
    asked: set[str] = set()
    shown: set[str] = set()
    idle = 0
    while query is not None:
        asked.add(query)
        page, link = get(query)
        names = {str(raw.get("id")) for raw in page if isinstance(raw, dict)}
        idle = 0 if names - shown else idle + 1
        shown |= names
        yield from page
        query = None if link is None else _next_query(link, parameters)
        if query in asked:
            raise UnusableAnswerError("its list of models links back to an earlier page")
        if query is not None and idle >= _MOST_IDLE:
            raise UnusableAnswerError(f"{idle} pages of its list of models show nothing new")


def next_link(response: httpx.Response) -> str | None:
    """The `Link: <url>; rel="next"` of a page.

    Raises:
        UnusableAnswerError: it cannot be read.
    """
    try:
        return response.links.get("next", {}).get("url")
    except (ValueError, LookupError) as error:
        raise UnusableAnswerError("its link to the next page cannot be read") from error


def kind_of_answer(answer: object) -> str:
    """What kind of JSON value an answer is, for a message."""
    if isinstance(answer, dict):
        says = answer.get("error")
        said = f" that says {printable(says[:200])!r}" if isinstance(says, str) else ""
        return f"an object{said}"
    if isinstance(answer, str):
        return "a text"
    return "null" if answer is None else "a number"


def _next_query(link: str, parameters: Mapping[str, object]) -> str:
    """The query of a link, for our own endpoint.

    Mirrors pass on the links of the Hub that they mirror, which name another host or path. The
    cursor is taken literally; parameters that the link omits are kept.
    """
    try:
        query = urlsplit(link).query
        named = parse_qs(query, keep_blank_values=True)
    except ValueError as error:
        raise UnusableAnswerError("its link to the next page is not a URL") from error
    left_out = {name: value for name, value in parameters.items() if name not in named}
    return "&".join(part for part in (query, urlencode(left_out, doseq=True)) if part)
