"""Rate limits: what is left of a quota is spread over the window, and short runs never wait."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from faults import Fault, FaultyHub
from huggingface_hub.utils import httpx
from small_repos import Repos

from hubdelta.crawler.downloads import small_file
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.pace import Pace
from hubdelta.schemas.keys import AdapterKey

RESOLVE = httpx.URL("https://hub.test/org/a/resolve/main/x")
API = httpx.URL("https://hub.test/api/models/org/a")


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FixedWindow:
    """A server that allows so many requests in a window of 300 seconds, and says so."""

    def __init__(self, clock: Clock, quota: int) -> None:
        self.clock, self.quota, self.sent = clock, quota, list[float]()

    def answer(self, url: httpx.URL) -> httpx.Response:
        begin = self.clock.now // 300 * 300
        used = sum(at >= begin for at in self.sent)
        assert used < self.quota, "one request too many"
        self.sent.append(self.clock.now)
        left = int(begin + 300 - self.clock.now)
        headers = {
            "ratelimit": f'"resolvers";r={self.quota - used - 1};t={left}',
            "ratelimit-policy": f'"fixed window";"resolvers";q={self.quota};w=300',
        }
        return httpx.Response(200, headers=headers, request=httpx.Request("GET", url))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(600.0, now=lambda: clock.now, sleep=clock.sleep)


@pytest.fixture
def send(clock: Clock, pace: Pace) -> Callable[[FixedWindow, int], list[float]]:
    """Sends so many requests, a tenth of a second each; gives their times."""

    def requests(server: FixedWindow, count: int) -> list[float]:
        for _ in range(count):
            pace.wait(RESOLVE)
            pace.learn(server.answer(RESOLVE))
            clock.sleep(0.1)
        return server.sent

    return requests


def test_half_of_a_quota_is_spent_without_waiting(
    clock: Clock, send: Callable[[FixedWindow, int], list[float]]
) -> None:
    send(FixedWindow(clock, 100), 50)
    assert clock.now == pytest.approx(5.0)


def test_more_than_a_quota_is_spread_and_never_refused(
    clock: Clock, send: Callable[[FixedWindow, int], list[float]]
) -> None:
    sent = send(FixedWindow(clock, 100), 450)
    assert 900 <= clock.now < 1500  # four windows and a half, of which each begins at full speed
    gaps = [after - before for before, after in pairwise(sent)]
    assert max(gaps) < 30, "no window is sat out"


def test_quotas_of_other_requests_and_hosts_are_their_own(clock: Clock, pace: Pace) -> None:
    server = FixedWindow(clock, 2)
    for _ in range(2):
        pace.learn(server.answer(RESOLVE))
    for url in (API, httpx.URL("https://cdn.test/org/a/resolve/main/x")):
        for _ in range(5):
            pace.wait(url)
    assert clock.now == 0
    pace.wait(RESOLVE)
    pace.wait(RESOLVE)
    assert clock.now > 100


def test_what_a_server_says_is_not_waited_for_without_end(clock: Clock, pace: Pace) -> None:
    headers = {
        "ratelimit": '"api";r=1;t=999999',
        "ratelimit-policy": '"fixed window";"api";q=500;w=300',
    }
    pace.learn(httpx.Response(200, headers=headers, request=httpx.Request("GET", API)))
    pace.wait(API)
    pace.wait(API)
    assert clock.now <= 600


@pytest.mark.parametrize("policy", ["", "nonsense", '"fixed window";"api";q=0;w=300'])
def test_an_answer_without_a_usable_quota_changes_nothing(
    policy: str, clock: Clock, pace: Pace
) -> None:
    headers = {"ratelimit": '"api";r=0;t=300', "ratelimit-policy": policy}
    for _ in range(3):
        pace.learn(httpx.Response(200, headers=headers, request=httpx.Request("GET", API)))
        pace.wait(API)
    assert clock.now == 0


def test_the_client_paces_itself_by_what_the_hub_says(
    hub: Hub, repos: Repos, served: FaultyHub, caplog: pytest.LogCaptureFixture
) -> None:
    key = AdapterKey("org/a", "", "5" * 40)
    repos.add(key.repo_id, {"config.json": b"{}"}, sha=key.revision)
    caplog.set_level("INFO", "hubdelta.crawler.pace")
    low = {"ratelimit": '"resolvers";r=20;t=2', "ratelimit-policy": '"w";"resolvers";q=100;w=300'}
    served.faults.add(Fault("*/resolve/*", headers=low, times=None))
    for _ in range(6):
        small_file(hub, key, "config.json", limit=100)
    at = [record.started for record in served.requests if "/resolve/" in record.path]
    assert len(at) == 6
    assert at[-1] - at[0] > 4 * 0.1
    assert "allows 20 more requests of 100 in the next 2 s" in caplog.text
