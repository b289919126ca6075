"""A Hub that is slow, full, broken, away or not ours: waited for, or told in one line."""

import logging
import socket
from dataclasses import replace

import pytest
import yaml
from faults import Fault, FaultyHub
from huggingface_hub import constants
from small_repos import BASE, Repos

from hubdelta.crawler.base import find_base
from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.errors import HubError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import RunRow


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_rate_limit_on_a_listing_is_waited_out_visibly(
    index: Index,
    hub: Hub,
    repos: Repos,
    served: FaultyHub,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    repos.adapter("org/a")
    served.faults.add(Fault("/api/models", status=429, reset=42))
    with caplog.at_level(logging.WARNING):
        assert crawl(index, hub, BASE).listed == 1
    assert pauses == [43.0]
    assert "429 Too Many Requests" in caplog.text
    assert "waiting 43.0 s" in caplog.text


@pytest.mark.slow
def test_a_rate_limit_on_one_model_is_waited_out_visibly(
    hub: Hub, served: FaultyHub, caplog: pytest.LogCaptureFixture
) -> None:
    served.faults.add(Fault(f"/api/models/{BASE}", status=429, reset=0))
    with caplog.at_level(logging.WARNING):
        assert find_base(hub, BASE).repo_id == BASE
    assert "429 Too Many Requests" in caplog.text
    assert "waiting 1.0 s" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_heal_is_tried_again_and_the_rest_is_not(
    status: int, hub: Hub, served: FaultyHub
) -> None:
    served.faults.add(Fault(f"/api/models/{BASE}", status=status, reset=0))
    assert find_base(hub, BASE).repo_id == BASE
    assert hub.requests == 2


def test_attempts_end(hub: Hub, served: FaultyHub) -> None:
    served.faults.add(Fault(f"/api/models/{BASE}", status=503, times=None))
    with pytest.raises(HubError, match=f"{served.url} answered: .*503"):
        find_base(hub, BASE)
    assert hub.requests == hub.settings.attempts == 3


def test_no_request_is_without_a_timeout(
    index: Index, settings: HubSettings, served: FaultyHub, pauses: list[float]
) -> None:
    with Hub(replace(settings, timeout=0.1, attempts=2)) as hub:
        served.faults.add(Fault(f"/api/models/{BASE}", delay=0.4, times=1))
        served.faults.add(Fault("/api/models", delay=0.4, times=1))
        assert crawl(index, hub, BASE).listed == 0
    assert len(pauses) == 2, "the base and its listing timed out once"


def test_a_page_cut_short_is_read_again(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub, pauses: list[float]
) -> None:
    repos.adapter("org/a")
    served.faults.add(Fault("/api/models", cut_after=1, times=1))
    assert crawl(index, hub, BASE).listed == 1
    assert len(pauses) == 1


def test_an_unknown_base_is_said_in_one_line(index: Index, hub: Hub, served: FaultyHub) -> None:
    with pytest.raises(HubError, match=f"meta/none is not at {served.url}, or is hidden") as caught:
        crawl(index, hub, "meta/none")
    assert "\n" not in str(caught.value)
    (run,) = rows_of(index.read(RunRow, base="meta/none"), RunRow)
    assert (run.outcome, run.marks) == ("failed", {})


@pytest.mark.parametrize("base", ["no-owner", "/home/me/base", "a/b/c", ""])
def test_what_cannot_be_a_base_is_not_asked_for(base: str, hub: Hub) -> None:
    with pytest.raises(HubError, match="is not at"):
        find_base(hub, base)
    assert hub.requests == 0


def test_a_refused_token_is_told_from_a_missing_base(
    settings: HubSettings, repos: Repos, served: FaultyHub
) -> None:
    (repos.place / ".hub.yaml").write_text(yaml.safe_dump({"tokens": {"hf_right": "*"}}))
    with Hub(replace(settings, token="hf_wrong")) as hub, pytest.raises(HubError) as caught:
        find_base(hub, BASE)
    assert "refuses the token" in str(caught.value)
    assert "hf_wrong" not in str(caught.value) + repr(hub.settings)
    with Hub(replace(settings, token="hf_right")) as hub:
        assert find_base(hub, BASE).repo_id == BASE
        with pytest.raises(HubError, match="is not at"):
            find_base(hub, "meta/none")


def test_a_refused_token_is_noticed_without_the_hubs_word_for_it(
    settings: HubSettings, served: FaultyHub
) -> None:
    served.faults.add(Fault("/api/models*", status=401, times=None))
    hub = Hub(replace(settings, token="hf_wrong"))
    with pytest.raises(HubError, match="refuses the token"):
        find_base(hub, BASE)


def test_no_network_names_the_endpoint(settings: HubSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    hub = Hub(replace(settings, endpoint=f"http://127.0.0.1:{port}"))
    with pytest.raises(HubError, match=f"no answer from http://127.0.0.1:{port}"):
        find_base(hub, BASE)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:80", "nonsense", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_said_in_one_line(
    settings: HubSettings, endpoint: str
) -> None:
    with Hub(replace(settings, endpoint=endpoint)) as hub, pytest.raises(HubError) as caught:
        find_base(hub, BASE)
    assert "HF_ENDPOINT" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_no_hub_is_said_in_one_line(
    settings: HubSettings, served: FaultyHub
) -> None:
    hub = Hub(replace(settings, endpoint=f"{served.url}/elsewhere"))
    with pytest.raises(HubError) as caught:
        find_base(hub, BASE)
    assert "\n" not in str(caught.value)


def test_offline_is_said_in_one_line(hub: Hub, offline: None) -> None:
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        find_base(hub, BASE)


def test_requests_say_who_asks(settings: HubSettings, served: FaultyHub) -> None:
    with Hub(replace(settings, library_version="1.2.3")) as hub:
        find_base(hub, BASE)
        list(hub.listing("peft"))
    assert all("hubdelta/1.2.3" in record.headers["user-agent"] for record in served.requests)
    assert len(served.requests) == hub.requests == 2
