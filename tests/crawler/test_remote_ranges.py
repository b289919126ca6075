"""Parts of a file read into memory: every byte in its place, and few that nobody asked for."""

import random
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from faults import Fault, FaultyHub
from small_repos import Repos

from hubdelta.crawler import remote_ranges
from hubdelta.crawler.downloads import small_file
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.ranged import coalesced
from hubdelta.crawler.remote_ranges import RemoteRanges
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

FILE = "model.safetensors"
KEY = AdapterKey("org/a", "", "5" * 40)
CONTENT = "/api/resolve-cache/*"
BYTES = random.Random(0).randbytes(300_000)


@pytest.fixture
def file(hub: Hub, repos: Repos, monkeypatch: pytest.MonkeyPatch) -> Callable[[], RemoteRanges]:
    """Opens a file of which long parts are cut up for several connections."""
    monkeypatch.setattr(remote_ranges, "_LONGEST", 20_000)
    repos.add(KEY.repo_id, {FILE: BYTES}, sha=KEY.revision)
    return lambda: RemoteRanges(hub, KEY, FILE, len(BYTES), connections=3)


def read(file: RemoteRanges, ranges: list[tuple[int, int]]) -> int:
    """Read ranges [start, end), see that they hold what they should; bytes asked for."""
    buffers = [bytearray(end - start) for start, end in ranges]
    file.read(
        [(start, memoryview(buffer)) for (start, _), buffer in zip(ranges, buffers, strict=True)]
    )
    assert [bytes(buffer) for buffer in buffers] == [BYTES[start:end] for start, end in ranges]
    return sum(map(len, buffers))


def some_ranges(seed: int) -> list[tuple[int, int]]:
    """Ranges with and without gaps, some of them empty, in any order."""
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(BYTES)), 60))
    ranges = [pair for pair in pairwise(cuts) if chance.random() < 0.6]
    ranges.append((cuts[5], cuts[5]))
    chance.shuffle(ranges)
    return ranges


@pytest.mark.parametrize("seed", range(6))
def test_any_ranges_with_a_twentieth_of_gaps(seed: int, file: Callable[[], RemoteRanges]) -> None:
    opened = file()
    asked = read(opened, some_ranges(seed))
    assert asked <= opened.fetched <= 1.05 * asked


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_ignores_ranges_sends_the_file_once_a_read(
    seed: int, file: Callable[[], RemoteRanges], served: FaultyHub
) -> None:
    served.faults.add(Fault(CONTENT, times=None, no_ranges=True))
    opened = file()
    for ranges in (some_ranges(seed), [(0, 50_000), (200_000, 300_000)]):
        served.requests.clear()
        read(opened, ranges)
        assert [record.status for record in served.requests if record.status < 300] == [200]
    assert opened.fetched <= 2 * len(BYTES)


@pytest.mark.parametrize("after", range(1, 12, 2))
@pytest.mark.parametrize("times", [1, 3, None])
def test_a_server_that_ignores_some_ranges(
    after: int, times: int | None, file: Callable[[], RemoteRanges], served: FaultyHub
) -> None:
    served.faults.add(Fault(CONTENT, after=after, times=times, no_ranges=True))
    served.faults.add(Fault(CONTENT, after=after, cut_after=60_000))
    opened = file()
    for seed in range(2):
        read(opened, some_ranges(seed))


def test_a_connection_serves_request_after_request(
    file: Callable[[], RemoteRanges],
    hub: Hub,
    served: FaultyHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    connect = socket.create_connection

    def counted(address: object, *rest: Any, **more: Any) -> socket.socket:
        opened.append(address)
        return connect(address, *rest, **more)

    monkeypatch.setattr(socket, "create_connection", counted)
    remote = file()
    for start in range(0, 200_000, 20_000):
        read(remote, [(start, start + 9000)])
        small_file(hub, KEY, FILE, limit=len(BYTES))
    assert len(served.requests) >= 20
    assert len(opened) == 1


def test_the_rest_of_a_file_that_was_not_asked_for_is_not_waited_for(
    file: Callable[[], RemoteRanges], hub: Hub, served: FaultyHub
) -> None:
    served.faults.add(Fault(CONTENT, times=None, no_ranges=True, bytes_per_second=1e5))
    before = hub.bytes_received
    read(file(), [(0, 9000)])
    assert hub.bytes_received - before < 100_000


def test_a_connection_that_breaks_more_often_than_there_are_attempts(
    file: Callable[[], RemoteRanges], served: FaultyHub
) -> None:
    served.faults.add(Fault(CONTENT, times=12, cut_after=1500))
    opened = file()
    assert read(opened, [(100, 20_000)]) <= opened.fetched
    assert opened.fetched < 25_000  # what had come was not asked for again


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_for_a_moment(
    status: int, file: Callable[[], RemoteRanges], served: FaultyHub
) -> None:
    served.faults.add(Fault(CONTENT, times=2, status=status, reset=0))
    read(file(), [(0, 50_000)])


def test_a_server_that_stays_away(file: Callable[[], RemoteRanges], served: FaultyHub) -> None:
    served.faults.add(Fault("*", times=None, status=503))
    with pytest.raises(AdapterError) as caught:
        read(file(), [(0, 100_000)])
    assert caught.value.reason is Reason.NETWORK


def test_a_file_that_is_another_by_now(hub: Hub, repos: Repos) -> None:
    repos.add(KEY.repo_id, {FILE: BYTES}, sha=KEY.revision)
    with pytest.raises(AdapterError) as caught:
        RemoteRanges(hub, KEY, FILE, len(BYTES) + 1).read([(0, memoryview(bytearray(5)))])
    assert caught.value.reason is Reason.NETWORK


def test_the_smallest_gaps_are_bridged() -> None:
    ranges = [(0, 100), (100, 200), (204, 300), (306, 400), (420, 500)]
    assert coalesced(ranges) == [(0, 400), (420, 500)]


def resolves(served: FaultyHub) -> int:
    """Requests so far that the Hub counts as file resolves."""
    return sum("/resolve/" in record.path for record in served.requests)


def test_the_hub_is_asked_once_where_the_bytes_are(
    hub: Hub, served: FaultyHub, file: Callable[[], RemoteRanges]
) -> None:
    opened = file()
    for seed in range(3):
        read(opened, some_ranges(seed))
    assert resolves(served) == hub.resolves == 1


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_place_that_is_no_longer_valid_is_asked_for_again(
    status: int, served: FaultyHub, file: Callable[[], RemoteRanges]
) -> None:
    opened = file()
    read(opened, [(0, 100)])
    served.faults.add(Fault(CONTENT, status=status, times=1))
    read(opened, [(500, 900)])
    assert resolves(served) == 2


def test_a_place_that_sends_something_else_is_asked_for_again(
    served: FaultyHub, file: Callable[[], RemoteRanges]
) -> None:
    opened = file()
    read(opened, [(0, 100)])
    served.faults.add(Fault(CONTENT, headers={"content-range": "bytes 0-99/100"}, times=1))
    read(opened, [(500, 900)])
    assert resolves(served) == 2
