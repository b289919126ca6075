"""Answers that take too long, are too large, lead elsewhere, or are none of a Hub's."""

import gzip
import json
import logging
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import huggingface_hub.utils._http as client_of_the_hub
import pytest
import yaml
from faults import Fault, FaultyHub
from huggingface_hub import HfApi
from huggingface_hub.utils import httpx
from small_repos import BASE, Repos

from hubdelta.crawler.base import find_base
from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.downloads import fetch
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.crawler.ledger import newest_rows
from hubdelta.crawler.wire import Limits
from hubdelta.schemas.errors import HubError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterKey

TOKEN = "hf_secret"
ADAPTERS = f"base_model:adapter:{BASE}"


@pytest.fixture
def impatient(settings: HubSettings) -> Iterator[Hub]:
    limits = Limits(slowest=1000, largest=20_000, longest_pause=60)
    with Hub(replace(settings, timeout=0.2, attempts=3, limits=limits)) as hub:
        yield hub


@pytest.fixture
def elsewhere(tmp_path: Path, repos: Repos) -> Iterator[FaultyHub]:
    """Another Hub with the same repositories: the one that a mirror copies from."""
    with FaultyHub(repos.place) as other:
        yield other


def test_private_names_of_huggingface_hub_that_are_used_are_still_there() -> None:
    assert isinstance(client_of_the_hub.default_client_factory(), httpx.Client)
    from huggingface_hub._local_folder import read_download_metadata

    assert callable(read_download_metadata)


def test_an_answer_that_trickles_is_given_up_after_two_attempts(
    impatient: Hub, served: FaultyHub
) -> None:
    served.faults.add(Fault("/api/models", times=None, body=b"[" * 5000, bytes_per_second=60))
    with pytest.raises(HubError, match=r"only \d+ bytes of an answer came"):
        list(impatient.listing(ADAPTERS))
    assert impatient.requests == 2


def test_a_slow_answer_that_gets_on_is_waited_for(
    impatient: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a")
    served.faults.add(Fault("/api/models", times=None, bytes_per_second=2500))
    assert [raw["id"] for raw in impatient.listing(ADAPTERS)] == ["org/a"]  # type: ignore[index]


@pytest.mark.parametrize("name", ["retry-after", "ratelimit"])
def test_a_wait_too_long_to_be_meant_is_not_made(
    name: str, impatient: Hub, served: FaultyHub, pauses: list[float]
) -> None:
    text = "999999" if name == "retry-after" else '"api";r=0;t=999999'
    headers = {"ratelimit": None, name: text}
    served.faults.add(Fault("/api/models*", status=429, times=None, headers=headers))
    with pytest.raises(HubError, match=r"429.*, and asks to wait 999999 seconds"):
        list(impatient.listing(ADAPTERS))
    assert max(pauses) <= impatient.settings.longest_wait


def test_a_body_that_is_too_large_is_not_read_on(impatient: Hub, served: FaultyHub) -> None:
    served.faults.add(Fault("/api/models", times=None, body=b" " * 1_000_000))
    with pytest.raises(HubError, match="an answer of more than 0 MB"):
        list(impatient.listing(ADAPTERS))


def test_a_file_may_be_larger_than_other_answers(
    impatient: Hub, repos: Repos, served: FaultyHub, tmp_path: Path
) -> None:
    repos.add("org/a", {"adapter_model.safetensors": bytes(50_000)})
    key = AdapterKey("org/a", "", impatient.model("org/a").sha)
    (path,) = fetch(impatient, key, ["adapter_model.safetensors"], tmp_path / "downloads")
    assert path.stat().st_size == 50_000


def test_a_compressed_body_is_measured_unpacked(
    impatient: Hub, served: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            unpacked.append(self._real.decompress(data, most))
            return unpacked[-1]

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr("hubdelta.crawler.wire.zlib.decompressobj", Counting)
    bomb = gzip.compress(bytes(50_000_000))
    headers = {"content-encoding": "gzip"}
    served.faults.add(Fault("/api/models", times=None, body=bomb, headers=headers))
    with pytest.raises(HubError, match="an answer of more than"):
        list(impatient.listing(ADAPTERS))
    assert sum(map(len, unpacked)) < 5_000_000


@pytest.mark.parametrize("members", [1, 2])
def test_a_compressed_body_is_read(members: int, hub: Hub, repos: Repos, served: FaultyHub) -> None:
    text = json.dumps([{"id": "org/a"}]).encode()
    body = (
        gzip.compress(text) if members == 1 else gzip.compress(text[:5]) + gzip.compress(text[5:])
    )
    served.faults.add(Fault("/api/models", body=body, headers={"content-encoding": "gzip"}))
    assert list(hub.listing(ADAPTERS)) == [{"id": "org/a"}]


@pytest.mark.parametrize(
    ("body", "packing"),
    [
        (gzip.compress(b"[]" * 99)[:-12], "gzip"),
        (b"no gzip", "gzip"),
        (gzip.compress(gzip.compress(b"[]")), "gzip, gzip"),
        (b"[]", "br"),
    ],
    ids=["cut short", "not packed", "packed twice", "another packing"],
)
def test_a_compressed_body_that_cannot_be_read_is_asked_for_again(
    body: bytes, packing: str, hub: Hub, served: FaultyHub
) -> None:
    fault = Fault("/api/models", times=None, body=body, headers={"content-encoding": packing})
    served.faults.add(replace(fault, times=1))
    assert list(hub.listing(ADAPTERS)) == []
    served.faults.add(fault)
    with pytest.raises(HubError) as caught:
        list(hub.listing(ADAPTERS))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{}", "is an object"),
        (b'{"error": "over capacity"}', "an object that says 'over capacity'"),
        (b"null", "is null"),
        (b'"models"', "is a text"),
        (b"3", "is a number"),
        (b"<!doctype html><html>Log in</html>", "an HTML page"),
        (b"", "invalid JSON"),
        (b"[" * 100_000, "invalid JSON"),
    ],
)
def test_a_listing_is_a_list_and_nothing_else(
    body: bytes, what: str, index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a")
    crawl(index, hub, BASE)
    served.faults.add(Fault("/api/models", times=None, body=body))
    with pytest.raises(HubError, match=f"{served.url} does not answer as a Hub: .*{what}"):
        crawl(index, hub, BASE, full=True)
    assert newest_rows(index, BASE)["org/a", ""].vanished_at is None
    served.faults.clear()
    served.faults.add(Fault("/api/models", body=body))
    assert crawl(index, hub, BASE, full=True).listed == 1, "it is asked once more"


def many(repos: Repos) -> set[str]:
    names = {f"org/a{number}" for number in range(7)}
    for name in sorted(names):
        repos.adapter(name)
    return names


@pytest.mark.parametrize(
    "link",
    [
        "{other}/api/models?{query}",
        "file:///etc/passwd?{query}",
        "ftp://files.example/api/models?{query}",
        "/somewhere/api/models?{query}",
        "?{query}",
        "{other}/api/models?{cursor}",
    ],
)
def test_the_next_page_is_the_endpoints_own_wherever_its_link_leads(
    link: str,
    settings: HubSettings,
    repos: Repos,
    served: FaultyHub,
    elsewhere: FaultyHub,
) -> None:
    (repos.place / ".hub.yaml").write_text(yaml.safe_dump({"tokens": {TOKEN: "*"}}))
    names = many(repos)
    with Hub(replace(settings, page_size=2, token=TOKEN)) as hub:
        seen = list(hub.listing(ADAPTERS))
        # The links of this Hub are those that the mirror's answers will carry.
        queries = [record.query for record in served.requests][1:]
        for number, pairs in enumerate(queries):
            query = urlencode(pairs)
            cursor = urlencode([pair for pair in pairs if pair[0] == "cursor"])
            url = link.format(other=elsewhere.url, query=query, cursor=cursor)
            served.faults.add(
                Fault("/api/models", after=number, headers={"link": f'<{url}>; rel="next"'})
            )
        assert list(hub.listing(ADAPTERS)) == seen
    assert {raw["id"] for raw in seen} == names  # type: ignore[index]
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("<{url}/api/models?cursor=1>; rel=next", "links back to an earlier page"),
        ("<http://[::1>; rel=next", "is not a URL"),
        ("<>; rel=next", "links back|no address|nothing new"),
    ],
)
def test_pages_without_an_end_are_said_in_one_line(
    link: str, what: str, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a")
    text = link.format(url=served.url)
    body = json.dumps([{"id": "org/a"}]).encode()
    served.faults.add(Fault("/api/models", times=None, body=body, headers={"link": text}))
    with pytest.raises(HubError, match=what) as caught:
        list(hub.listing(ADAPTERS))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b"[]", b'[{"id": "org/a"}]', b"[null]"])
def test_pages_that_show_nothing_new_end(body: bytes, hub: Hub, served: FaultyHub) -> None:
    for number in range(20):
        link = f'<{served.url}/api/models?cursor={number}>; rel="next"'
        served.faults.add(Fault("/api/models", after=number, body=body, headers={"link": link}))
    with pytest.raises(HubError, match="pages of its list of models show nothing new"):
        list(hub.listing(ADAPTERS))
    assert hub.requests < 15


def test_a_token_does_not_go_along_a_redirect_to_another_server(
    settings: HubSettings, served: FaultyHub, elsewhere: FaultyHub, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    path = f"/api/models/{BASE}"
    with Hub(replace(settings, token=TOKEN)) as hub, caplog.at_level(logging.DEBUG):
        client = hub._client()
        client.event_hooks["request"].append(
            lambda request: asked.append((request.url.port, request.headers.get("authorization")))
        )
        headers = {"location": f"{elsewhere.url}{path}"}
        served.faults.add(Fault(path, status=307, headers=headers))
        with client:
            client.get(f"{served.url}{path}", headers=hub.headers())
            client.get(f"{elsewhere.url}{path}", headers=hub.headers())
    ports = [httpx.URL(url).port for url in (served.url, elsewhere.url, elsewhere.url)]
    assert asked == list(zip(ports, [f"Bearer {TOKEN}", None, None], strict=True))
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("body", [b"[]", b"null", b'{"error": []}', b"<html>", b"[" * 100_000])
def test_an_error_is_told_whatever_its_body_is(body: bytes, hub: Hub, served: FaultyHub) -> None:
    served.faults.add(Fault("/api/models*", status=400, body=body, times=None))
    with pytest.raises(HubError, match="400 Bad Request"):
        list(hub.listing(ADAPTERS))


@pytest.mark.parametrize(
    "location", ["{url}/api/models/meta/base-1b", "file:///etc/passwd", "http://[::1", ""]
)
def test_a_redirect_that_leads_nowhere_is_said_in_one_line(
    location: str, hub: Hub, served: FaultyHub
) -> None:
    text = location.format(url=served.url)
    served.faults.add(Fault("/api/models/*", status=307, times=None, headers={"location": text}))
    with pytest.raises(HubError) as caught:
        find_base(hub, BASE)
    assert "\n" not in str(caught.value)


def test_other_users_of_huggingface_hub_have_its_own_client_afterwards(
    repos: Repos, settings: HubSettings
) -> None:
    with Hub(settings):
        pass
    with FaultyHub(repos.place) as elsewhere:
        assert list(HfApi(elsewhere.url, token=TOKEN).list_models())
    assert elsewhere.requests[-1].headers["authorization"] == "Bearer ***"
