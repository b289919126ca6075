"""One configured client of the Hub: huggingface_hub's, with a timeout, a count and retries."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

from huggingface_hub import (
    HfApi,
    close_session,
    get_session,
    hf_raise_for_status,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (
    build_hf_headers,
    disable_progress_bars,
    httpx,
    paginate,
)
from huggingface_hub.utils import logging as hf_logging
from huggingface_hub.utils._http import default_client_factory
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from hubdelta.crawler.entry import Entry, read_entry
from hubdelta.crawler.hub_errors import (
    HUB_FAILURES,
    asked_wait,
    hub_error,
    is_transient,
    one_line,
)

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LIBRARY: Final = "hubdelta"

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
"""What a catalog row needs, as names of the API's `expand`; without it a listing lacks sha,
lastModified, gated and siblings."""


@dataclass(frozen=True)
class HubSettings:
    """Which Hub, as whom, and how patiently.

    Attributes:
        endpoint: URL of the Hub; None for huggingface_hub's own (`HF_ENDPOINT`).
        token: access token; None for huggingface_hub's own (`HF_TOKEN`, `hf auth login`).
        timeout: for each connect and each read of every request, in seconds.
        library_version: version of hubdelta, for the user agent.
        attempts: how often a call is tried in all.
        first_wait: ceiling of the first random pause between attempts, in seconds; it doubles.
        longest_wait: ceiling of any such pause, in seconds. A pause that the Hub asks for
            (RateLimit, Retry-After) is kept whatever its length.
        page_size: entries a page of a full walk; the Hub gives at most 1000.
    """

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    library_version: str = ""
    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0
    page_size: int = 1000


class Hub:
    """The Hub of this process: huggingface_hub keeps one HTTP client, and this configures it.

    Making a second one takes the client over; share one between threads instead.
    """

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.api = HfApi(
            endpoint=settings.endpoint,
            token=settings.token,
            library_name=LIBRARY,
            library_version=settings.library_version,
        )
        self._sent = self._received = 0
        self._counting = threading.Lock()
        self._backoff = wait_random_exponential(settings.first_wait, settings.longest_wait)
        set_client_factory(self._client)
        _share_log()
        disable_progress_bars()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        """HTTP requests sent so far; every redirect that is followed is one."""
        return self._sent

    @property
    def bytes_received(self) -> int:
        """Bytes of all bodies that arrived so far; what hf_xet fetches by itself is not seen."""
        return self._received

    def call(self, do: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what huggingface_hub does not retry, trying again where that can help.

        Raises:
            Exception: as `do` raises in the last attempt.
        """
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(self.settings.attempts),
            wait=self._wait,
            before_sleep=_say_wait,
            reraise=True,
        )
        return retrying(do, *args, **kwargs)

    def listing(self, tag: str, *, page_size: int | None = None) -> Iterator[object]:
        """The models that carry a tag, newest change first, as the JSON of each; pages are lazy.

        The client retries these calls itself (408, 429, 5xx, lost connections). Its
        `list_models` is not used: an entry that its classes cannot hold would end the walk.

        Args:
            tag: value of `filter`.
            page_size: entries a page; by default the settings'.

        Raises:
            HubError: the Hub does not answer, or not as one.
        """
        parameters = {
            "filter": tag,
            "sort": "lastModified",
            "limit": page_size or self.settings.page_size,
            "expand": list(ROW_PROPERTIES),
        }
        try:
            yield from paginate(f"{self.endpoint}/api/models", parameters, self.headers())
        except HUB_FAILURES as error:
            raise hub_error(error, self.endpoint) from error

    def model(self, repo_id: str, revision: str | None = None) -> Entry:
        """One repository, under its present name, at a revision (by default the newest commit).

        Raises:
            HfHubHTTPError, httpx.HTTPError: as huggingface_hub raises them.
            ValueError: the answer is not a model's.
        """
        path = f"/api/models/{repo_id}"
        if revision is not None:
            path += f"/revision/{quote(revision, safe='')}"
        return read_entry(self.call(self._json, path, {"expand": list(ROW_PROPERTIES)}))

    def refuses_token(self) -> bool:
        """Whether the Hub turns the token down, which it then does for public data as well."""
        if "authorization" not in self.headers():
            return False
        try:
            self.call(self._json, "/api/models", {"limit": 1})
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

    def _json(self, path: str, parameters: dict[str, Any]) -> object:
        response = get_session().get(
            f"{self.endpoint}{path}", params=parameters, headers=self.headers()
        )
        hf_raise_for_status(response)
        return response.json()

    def _client(self) -> httpx.Client:
        client = default_client_factory()  # with its request hook, which keeps HF_HUB_OFFLINE
        client.event_hooks["request"].append(self._before_request)
        client.event_hooks["response"].append(self._count_body)
        return client

    def _before_request(self, request: httpx.Request) -> None:
        with self._counting:
            self._sent += 1
        # Set here and not on the client: huggingface_hub passes timeout=None with most calls.
        timeouts = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            phase: self.settings.timeout if timeouts.get(phase) is None else timeouts[phase]
            for phase in ("connect", "read", "write", "pool")
        }

    def _count_body(self, response: httpx.Response) -> None:
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = _CountedBody(response.stream, self._count)

    def _count(self, size: int) -> None:
        with self._counting:
            self._received += size

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = None if error is None else asked_wait(error)
        # The Hub counts in whole seconds: one more, or the next attempt may come too early.
        return self._backoff(state) if asked is None else asked + 1.0


class _CountedBody(httpx.SyncByteStream):
    """The body of an answer, its bytes counted as they arrive."""

    def __init__(self, body: httpx.SyncByteStream, count: Callable[[int], None]) -> None:
        self._body, self._count = body, count

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._body:
            self._count(len(chunk))
            yield chunk

    def close(self) -> None:
        self._body.close()


def _share_log() -> None:
    """Let what the client remarks, as "Rate limited. Waiting 56.0s", go where our own log goes."""
    hf_logging.get_logger().handlers.clear()


def _say_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    reason = "no answer" if error is None else one_line(error)
    logger.warning("%s: waiting %.1f s before another attempt", reason, pause)
