"""The Hub's rate limits, kept by spreading requests over the window instead of running into them.

A Hub counts API calls and file resolves by account in windows of five minutes, and says in every
answer how many are left and when the window ends (huggingface.co/docs/hub/rate-limits).
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from huggingface_hub.utils import httpx, parse_ratelimit_headers

logger = logging.getLogger(__name__)

_FREE_SHARE: Final = 0.5  # of a window's quota that may be spent at any rate

_RESOLVE: Final = "/resolve/"


@dataclass
class _Quota:
    """What is known of one kind of requests.

    Attributes:
        interval: seconds between two requests.
        next: when the next one may be sent.
    """

    interval: float = 0.0
    next: float = 0.0


class Pace:
    """Spreads requests of each kind over the rest of the Hub's window. Thread-safe.

    While more than half of the quota is left, nothing waits, so short runs are as fast as ever.
    After that, what is left is spread evenly over the rest of the window.

    Args:
        longest: the most seconds that one request waits.
        now: a monotonic clock [s].
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        longest: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._longest, self._now, self._sleep = longest, now, sleep
        self._quotas: dict[str, _Quota] = {}
        self._lock = threading.Lock()

    def wait(self, url: httpx.URL) -> None:
        """Wait until a request may be sent."""
        with self._lock:
            quota = self._quotas.get(_kind(url))
            if quota is None:
                return
            now = self._now()
            turn = min(max(quota.next, now), now + self._longest)
            quota.next = turn + quota.interval
        if turn > now:
            self._sleep(turn - now)

    def learn(self, response: httpx.Response) -> None:
        """Take in what an answer says of its quota."""
        limit = parse_ratelimit_headers(response.headers)
        if limit is None or not limit.limit:
            return
        with self._lock:
            quota = self._quotas.setdefault(_kind(response.url), _Quota())
            was_free = not quota.interval
            if limit.remaining > _FREE_SHARE * limit.limit:
                quota.interval = quota.next = 0.0
                return
            quota.interval = limit.reset_in_seconds / max(1, limit.remaining)
        if was_free:
            logger.info(
                "the Hub allows %d more requests of %d in the next %d s: spreading them",
                *(limit.remaining, limit.limit, limit.reset_in_seconds),
            )


def is_resolve(url: httpx.URL) -> bool:
    """Whether a request counts as a file resolve at the Hub."""
    return _RESOLVE in url.path


def _kind(url: httpx.URL) -> str:
    return f"{url.host} {'resolve' if is_resolve(url) else 'api' if '/api/' in url.path else ''}"
