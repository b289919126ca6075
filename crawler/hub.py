"""One configured Hub client: huggingface_hub's, with a timeout, counters and retries."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

from huggingface_hub import (
    HfApi,
    close_session,
    get_session,
    hf_raise_for_status,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, httpx
from huggingface_hub.utils import logging as hf_logging
from huggingface_hub.utils._http import default_client_factory
from tenacity import RetryCallState, Retrying, stop_after_attempt
from tenacity.wait import wait_random_exponential

from hubdelta.crawler.entry import Entry, read_entry
from hubdelta.crawler.hub_errors import (
    HUB_FAILURES,
    hub_error,
    is_transient,
    one_line,
    requested_pause,
)
from hubdelta.crawler.pages import kind_of_answer, next_link, walk_pages
from hubdelta.crawler.wire import Limits, SlowAnswerError, UnusableAnswerError, Wire

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LIBRARY: Final = "hubdelta"

_RETRIED_ONCE: Final = (SlowAnswerError, UnusableAnswerError)
"""Errors that are slow to detect or rarely go away: tried twice at most."""

ROW_PROPERTIES: Final = (
    "author",
    "baseModels",
    "cardData",
    "config",
    "createdAt",
    "disabled",
    "downloads",
    "gated",
    "lastModified",
    "library_name",
    "likes",
    "pipeline_tag",
    "private",
    "sha",
    "siblings",
    "tags",
)
"""What a catalog row needs, as values of the API's `expand`; without it a listing lacks sha,
lastModified, gated and siblings."""


@dataclass(frozen=True)
class HubSettings:
    """Which Hub, as whom, and how patiently.

    Attributes:
        endpoint: URL of the Hub; None for huggingface_hub's own (`HF_ENDPOINT`).
        token: access token; None for huggingface_hub's own (`HF_TOKEN`, `hf auth login`).
        timeout: for each connect and each read of every request, in seconds.
        library_version: version of hubdelta, for the user agent.
        attempts: how many times a call is tried in total.
        first_wait: ceiling of the first random pause between attempts, in seconds; it doubles.
        longest_wait: ceiling of any such pause, in seconds. A pause that the Hub asks for
            (RateLimit, Retry-After) is kept up to `limits.longest_pause`.
        page_size: entries per page of a full walk; the Hub gives at most 1000.
        limits: limits on one response.
    """

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    library_version: str = ""
    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0
    page_size: int = 1000
    limits: Limits = field(default_factory=Limits)


class Hub:
    """The Hub client of this process: huggingface_hub keeps one HTTP client, which this configures.

    A second Hub would take over that client; share one between threads instead.
    """

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.api = HfApi(
            endpoint=settings.endpoint,
            token=settings.token,
            library_name=LIBRARY,
            library_version=settings.library_version,
        )
        self._wire = Wire(self.endpoint, settings.timeout, settings.limits)
        self._backoff = wait_random_exponential(settings.first_wait, settings.longest_wait)
        set_client_factory(self._client)
        _forward_client_log()
        disable_progress_bars()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *error: object) -> None:
        set_client_factory(default_client_factory)  # which other code in the process expects
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        close_session()

    @property
    def endpoint(self) -> str:
        """URL of the Hub, without a slash at its end."""
        return self.api.endpoint.rstrip("/")

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, counting each redirect followed."""
        return self._wire.sent

    @property
    def resolves(self) -> int:
        """File resolves requested so far, which the Hub limits by account."""
        return self._wire.resolved

    @property
    def bytes_received(self) -> int:
        """Bytes of all bodies received so far, without what hf_xet fetches by itself."""
        return self._wire.received

    def call(self, do: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that huggingface_hub does not retry, retrying where that can help.

        Raises:
            Exception: as raised by `do` in the last attempt.
        """
        retrying = Retrying(
            retry=_may_heal,
            stop=stop_after_attempt(self.settings.attempts),
            wait=self._wait,
            before_sleep=_log_wait,
            reraise=True,
        )
        return retrying(do, *args, **kwargs)

    def listing(self, tag: str, *, page_size: int | None = None) -> Iterator[object]:
        """The JSON of each model that carries a tag, latest change first; pages are lazy.

        huggingface_hub's `list_models` is not used: an entry that its classes cannot hold would end
        the walk, and it follows links to other hosts.

        Args:
            tag: value of `filter`.
            page_size: entries per page; by default from the settings.

        Raises:
            HubError: no answer, or not a Hub's.
        """
        parameters = {
            "filter": tag,
            "sort": "lastModified",
            "limit": page_size or self.settings.page_size,
            "expand": list(ROW_PROPERTIES),
        }
        try:
            yield from walk_pages(lambda query: self.call(self._page, query), parameters)
        except HUB_FAILURES as error:
            raise hub_error(error, self.endpoint) from error

    def model(self, repo_id: str, revision: str | None = None) -> Entry:
        """One repository, under its current name, at a revision (by default the newest commit).

        Raises:
            HfHubHTTPError, httpx.HTTPError: as huggingface_hub raises them.
            ValueError: the answer is not a model's.
        """
        path = f"/api/models/{repo_id}"
        if revision is not None:
            path += f"/revision/{quote(revision, safe='')}"
        return read_entry(self.call(self._model, path))

    def paths_info(self, repo_id: str, revision: str, paths: Sequence[str]) -> list[object]:
        """The JSON of each path that exists at a commit: one request.

        Raises:
            HfHubHTTPError, httpx.HTTPError: as huggingface_hub raises them.
            UnusableAnswerError: the answer is not a list.
        """
        path = f"/api/models/{repo_id}/paths-info/{quote(revision, safe='')}"
        return self.call(self._paths_info, path, paths)

    def refuses_token(self) -> bool:
        """Whether the Hub rejects the token, even for public data."""
        if "authorization" not in self.headers():
            return False
        try:
            self.call(self._get, "/api/models?limit=1")
        except HfHubHTTPError as error:
            return error.response.status_code == 401
        except httpx.HTTPError:
            return False
        return False

    def headers(self) -> dict[str, str]:
        """Headers of a request: user agent and, if there is one, the token."""
        return build_hf_headers(
            token=self.settings.token,
            library_name=LIBRARY,
            library_version=self.settings.library_version,
        )

    def _page(self, query: str) -> tuple[list[object], str | None]:
        """A page of the list of models, and the link to the next page."""
        response = self._get(f"/api/models?{query}")
        page = _json(response)
        if not isinstance(page, list):
            raise UnusableAnswerError(f"its list of models is {kind_of_answer(page)}")
        return page, next_link(response)

    def _model(self, path: str) -> object:
        query = urlencode({"expand": ROW_PROPERTIES}, doseq=True)
        return _json(self._get(f"{path}?{query}"))

    def _paths_info(self, path: str, paths: Sequence[str]) -> list[object]:
        form = {"paths": list(paths), "expand": "false"}
        response = get_session().post(f"{self.endpoint}{path}", data=form, headers=self.headers())
        hf_raise_for_status(response)
        found = _json(response)
        if not isinstance(found, list):
            raise UnusableAnswerError(f"its list of files is {kind_of_answer(found)}")
        return found

    def _get(self, path: str) -> httpx.Response:
        response = get_session().get(f"{self.endpoint}{path}", headers=self.headers())
        hf_raise_for_status(response)
        return response

    def _client(self) -> httpx.Client:
        client = default_client_factory()  # with its request hook, which enforces HF_HUB_OFFLINE
        client.event_hooks["request"].append(self._wire.before_request)
        client.event_hooks["response"].append(self._wire.after_response)
        return client

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = None if error is None else requested_pause(error)
        # The Hub counts in whole seconds: one more, or the next attempt may come too early.
        return self._backoff(state) if asked is None else asked + 1.0


def _json(response: httpx.Response) -> object:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        page = "an HTML page" if response.content.lstrip()[:1] == b"<" else "invalid JSON"
        raise UnusableAnswerError(f"it answers with {page}") from error


def _may_heal(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if error is None or not is_transient(error):
        return False
    return state.attempt_number == 1 or not isinstance(error, _RETRIED_ONCE)


def _forward_client_log() -> None:
    """Send the client's messages, such as "Rate limited. Waiting 56.0s", to our log."""
    hf_logging.get_logger().handlers.clear()


def _log_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    reason = "no answer" if error is None else one_line(error)
    logger.warning("%s: waiting %.1f s before another attempt", reason, pause)
