"""What a test can make a Hub do wrong, and how the real client takes it."""

import time
from pathlib import Path

import httpx2
import pytest
from faults import Fault
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, parse_ratelimit_headers


@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_status_is_answered_as_often_as_asked(folder, hub, api, status):
    folder.add_adapter("ada/law")
    hub.faults.add(Fault("/api/models/ada/*", status=status, times=2, after=1))
    assert api.model_info("ada/law").id == "ada/law"
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as caught:
            api.model_info("ada/law")
        assert caught.value.response.status_code == status
    assert api.model_info("ada/law").id == "ada/law"
    assert [record.status for record in hub.requests] == [200, status, status, 200]


@pytest.mark.slow
def test_a_rate_limit_says_when_it_ends_and_listings_wait_for_it(folder, hub, api):
    folder.add_adapter("ada/law")
    hub.faults.add(Fault("/api/models", status=429, reset=1))
    started = time.monotonic()
    assert [model.id for model in api.list_models()] == ["ada/law"]
    assert time.monotonic() - started > 1
    hub.faults.add(Fault("/api/models", status=429, reset=77))
    info = parse_ratelimit_headers(get_session().get(f"{hub.url}/api/models").headers)
    assert (info.remaining, info.reset_in_seconds, info.limit) == (0, 77, 500)


def test_a_delay_is_a_timeout_to_an_impatient_client(folder, hub, api, tmp_path):
    folder.add_adapter("ada/law")
    hub.faults.add(Fault("*", delay=1.0))
    with pytest.raises(httpx2.TimeoutException):
        api.model_info("ada/law", timeout=0.2)
    # A download asks a second time, with more patience, for what is not in its cache.
    hub.faults.add(Fault("*/resolve/*", delay=1.0))
    hub.requests.clear()
    api.hf_hub_download("ada/law", "adapter_config.json", cache_dir=tmp_path, etag_timeout=0.2)
    asked = [record for record in hub.requests if "/resolve/" in record.path]
    assert [record.method for record in asked] == ["HEAD", "HEAD"]


@pytest.mark.slow
def test_a_body_cut_short_is_noticed_and_resumed(folder, hub, api, tmp_path):
    content = bytes(range(256)) * 60_000
    folder.add("ada/law", {"weights.bin": content})
    hub.faults.add(Fault("*/resolve-cache/*", method="GET", cut_after=12_000_000))
    with pytest.raises(httpx2.RemoteProtocolError):
        get_session().get(f"{hub.url}/ada/law/resolve/main/weights.bin")
    hub.faults.add(Fault("*/resolve-cache/*", method="GET", cut_after=12_000_000))
    hub.requests.clear()
    path = api.hf_hub_download("ada/law", "weights.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == content
    sent = [record for record in hub.requests if record.method == "GET"]
    assert [record.status for record in sent] == [200, 206]
    kept = constants.DOWNLOAD_CHUNK_SIZE  # the client writes, and resumes at, whole chunks
    assert [record.bytes for record in sent] == [12_000_000, len(content) - kept]


def test_a_slow_line_takes_its_time_and_loses_nothing(folder, hub):
    folder.add("ada/law", {"weights.bin": b"x" * 50_000})
    hub.faults.add(Fault("*/resolve-cache/*", bytes_per_second=100_000))
    started = time.monotonic()
    answer = get_session().get(f"{hub.url}/ada/law/resolve/main/weights.bin")
    assert time.monotonic() - started > 0.45
    assert answer.content == b"x" * 50_000


def test_a_change_between_two_requests_is_not_seen_by_the_first(folder, hub, api):
    place = folder.add_adapter("ada/law")
    target = folder.place / "ada" / "moved"
    hub.faults.add(Fault("/api/models/ada/law", before_answer=lambda: place.rename(target)))
    assert api.model_info("ada/law").id == "ada/law"
    assert api.model_info("ada/moved").id == "ada/moved"


def test_faults_can_be_cleared(folder, hub, api):
    folder.add_adapter("ada/law")
    hub.faults.add(Fault("*", status=503, times=None))
    for _ in range(3):
        assert get_session().get(hub.url).status_code == 503
    hub.faults.clear()
    assert api.model_info("ada/law").id == "ada/law"
