"""Some tensors of a file over HTTP: hardly a byte more than they have, and as if all had come."""

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultyHub
from safetensors import safe_open
from safetensors.torch import load_file, save
from small_repos import Repos

from hubdelta.crawler.downloads import weight_header
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.partial_fetch import fetch_tensors
from hubdelta.crawler.safetensors_header import Header
from hubdelta.schemas.errors import AdapterError, HubError, IndexWriteError, Reason
from hubdelta.schemas.keys import AdapterKey

WEIGHTS = "adapter_model.safetensors"
KEY = AdapterKey("org/a", "", "5" * 40)
CONTENT = "/api/resolve-cache/*"

LAYERS = 20
NEEDED = LAYERS * 2 * 8 * 64 * 2  # bytes
TENSORS = {
    "lm_head.weight": torch.randn(3000, 64, dtype=torch.float32),
    **{
        f"layers.{layer}.lora_{side}": torch.randn(8, 64).bfloat16()
        for layer in range(LAYERS)
        for side in "AB"
    },
    "steps": torch.arange(3),
}


def is_layer(name: str) -> bool:
    return name.startswith("layers.")


def is_even_layer(name: str) -> bool:
    return is_layer(name) and int(name.split(".")[1]) % 2 == 0


@pytest.fixture
def put(hub: Hub, repos: Repos) -> Callable[[bytes], Header]:
    """Puts weights on the Hub, always as the same commit."""

    def put(weights: bytes, **more: object) -> Header:
        repos.adapter(KEY.repo_id, weights=weights, sha=KEY.revision, **more)
        return weight_header(hub, KEY, WEIGHTS)

    return put


@pytest.fixture
def header(put: Callable[[bytes], Header]) -> Header:
    return put(save(TENSORS, {"format": "pt", "note": "ä"}))


def alone(header: Header) -> Header:
    """As if not a byte of the tensors had come with the header."""
    return replace(header, start=header.start[: header.header_bytes])


def bodies(served: FaultyHub) -> list[int]:
    """Bytes of each answer that held a part of a file."""
    return [record.bytes for record in served.requests if record.status in {200, 206}]


def assert_holds(path: Path, names: set[str], tensors: dict[str, torch.Tensor] = TENSORS) -> None:
    found = load_file(path)
    assert set(found) == names
    for name, tensor in found.items():
        assert tensor.dtype is tensors[name].dtype
        assert torch.equal(tensor, tensors[name])


def test_what_is_not_wanted_is_not_sent(
    hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    served.requests.clear()
    path = fetch_tensors(hub, KEY, WEIGHTS, header, is_layer, tmp_path)
    assert path == tmp_path / WEIGHTS
    assert_holds(path, set(filter(is_layer, TENSORS)))
    assert bodies(served) == [NEEDED]
    with safe_open(path, "pt") as content:
        assert content.metadata() == {"format": "pt", "note": "ä"}


def test_files_keep_their_path_below_the_folder(hub: Hub, repos: Repos, tmp_path: Path) -> None:
    repos.adapter("org/a", weights=save(TENSORS), sha=KEY.revision, folder="x/y/")
    header = weight_header(hub, KEY, f"x/y/{WEIGHTS}")
    path = fetch_tensors(hub, KEY, f"x/y/{WEIGHTS}", header, is_layer, tmp_path / "new")
    assert path == tmp_path / "new/x/y" / WEIGHTS
    assert_holds(path, set(filter(is_layer, TENSORS)))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("no_ranges", [False, True])
def test_any_choice_arrives_and_gaps_cost_a_twentieth_at_most(
    seed: int,
    no_ranges: bool,
    hub: Hub,
    put: Callable[[bytes], Header],
    served: FaultyHub,
    tmp_path: Path,
) -> None:
    chance = random.Random(seed)
    dtypes = [torch.float32, torch.bfloat16, torch.uint8, torch.bool]
    tensors = {
        f"t{number}": torch.randint(0, 2, (chance.choice([0, 1, 30, 3000, 30_000]),)).to(
            chance.choice(dtypes)
        )
        for number in range(25)
    }
    chosen = {name for name in tensors if chance.random() < chance.choice([0.3, 0.9])}
    header = alone(put(save(tensors)))
    served.requests.clear()
    served.faults.add(Fault(CONTENT, times=None, no_ranges=no_ranges))
    path = fetch_tensors(hub, KEY, WEIGHTS, header, chosen.__contains__, tmp_path)
    assert_holds(path, chosen, tensors)
    needed = sum(tensors[name].nbytes for name in chosen)
    if not no_ranges:
        assert needed <= sum(bodies(served)) <= 1.05 * needed
    else:
        assert len(bodies(served)) <= 1


def test_small_gaps_save_requests(
    hub: Hub, put: Callable[[bytes], Header], served: FaultyHub, tmp_path: Path
) -> None:
    tensors = {
        f"{number:02}.{kind}": torch.ones(count)
        for number in range(10)
        for kind, count in (("wanted", 1000), ("unwanted", 10))
    }
    header = alone(put(save(tensors)))
    served.requests.clear()
    fetch_tensors(hub, KEY, WEIGHTS, header, lambda name: name.endswith(".wanted"), tmp_path)
    assert bodies(served) == [10 * 4000 + 9 * 40]


@pytest.mark.parametrize("wanted", [is_layer, lambda name: True], ids=["some", "all"])
def test_what_came_with_the_header_is_not_asked_for_again(
    wanted: Callable[[str], bool],
    hub: Hub,
    put: Callable[[bytes], Header],
    served: FaultyHub,
    tmp_path: Path,
) -> None:
    small = {name: tensor for name, tensor in TENSORS.items() if name != "lm_head.weight"}
    for number, tensors in enumerate((small, TENSORS)):
        served.requests.clear()
        header = put(save(tensors))
        path = fetch_tensors(hub, KEY, WEIGHTS, header, wanted, tmp_path / str(number))
        assert_holds(path, set(filter(wanted, tensors)), tensors)
        file_bytes = header.file_bytes if wanted("steps") else 100_000 + NEEDED
        assert sum(bodies(served)) <= max(100_000, file_bytes)


@pytest.mark.parametrize("times", [1, 2])
def test_a_whole_file_that_differs_from_the_record_comes_once_more_and_is_then_corrupt(
    times: int,
    hub: Hub,
    put: Callable[[bytes], Header],
    served: FaultyHub,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    right = save(TENSORS)
    header = put(right)
    place = served.folder / KEY.repo_id / WEIGHTS
    served.faults.add(
        Fault(CONTENT, times=times, before_answer=lambda: place.write_bytes(bytes(len(right))))
    )
    served.faults.add(Fault(CONTENT, after=times, before_answer=lambda: place.write_bytes(right)))
    with caplog.at_level(logging.WARNING):
        if times == 1:
            path = fetch_tensors(hub, KEY, WEIGHTS, header, lambda name: True, tmp_path)
            assert path.read_bytes() == right
        else:
            with pytest.raises(AdapterError) as caught:
                fetch_tensors(hub, KEY, WEIGHTS, header, lambda name: True, tmp_path)
            assert caught.value.reason is Reason.CORRUPT
    assert "does not have the hash" in caplog.text


def test_where_nothing_is_wanted_nothing_is_asked(
    hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    served.requests.clear()
    path = fetch_tensors(hub, KEY, WEIGHTS, header, lambda name: False, tmp_path)
    assert_holds(path, set())
    assert served.requests == []


def test_a_server_without_ranges_sends_the_file_once(
    hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    served.requests.clear()
    served.faults.add(Fault(CONTENT, times=None, no_ranges=True))
    path = fetch_tensors(hub, KEY, WEIGHTS, header, is_even_layer, tmp_path)
    assert_holds(path, set(filter(is_even_layer, TENSORS)))
    assert path.stat().st_size < NEEDED
    assert len(bodies(served)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(CONTENT, cut_after=500),
        Fault(CONTENT, after=3, cut_after=500),
        Fault(CONTENT, after=3, no_ranges=True),
        Fault(CONTENT, status=503),
        Fault("/org/a/resolve/*", status=429, reset=0),
    ],
    ids=["cut", "cut later", "ranges for some", "503", "429"],
)
def test_a_stumbling_hub_is_asked_again(
    fault: Fault, hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    served.faults.add(fault)
    path = fetch_tensors(hub, KEY, WEIGHTS, header, is_even_layer, tmp_path)
    assert_holds(path, set(filter(is_even_layer, TENSORS)))


def test_a_transfer_that_breaks_off_is_taken_up_again_however_often(
    hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    breaks = 3 * hub.settings.attempts
    served.faults.add(Fault(CONTENT, times=breaks, cut_after=1000))
    before = hub.bytes_received
    path = fetch_tensors(hub, KEY, WEIGHTS, header, is_layer, tmp_path)
    assert_holds(path, set(filter(is_layer, TENSORS)))
    assert hub.bytes_received - before < 1.05 * NEEDED


@pytest.mark.parametrize(
    "fault",
    [
        {"cut_after": 0},
        {"cut_after": 500, "no_ranges": True},
        {"status": 503},
    ],
)
def test_a_hub_that_stays_away_is_network_and_leaves_no_file(
    fault: dict[str, Any], hub: Hub, header: Header, served: FaultyHub, tmp_path: Path
) -> None:
    served.faults.add(Fault(CONTENT, times=None, **fault))
    assert reason_of(hub, header, tmp_path / "new") is Reason.NETWORK
    assert not (tmp_path / "new" / WEIGHTS).exists()
    assert hub.requests >= 2 * hub.settings.attempts


@pytest.mark.parametrize("length", [0, 100, -5, -NEEDED])
@pytest.mark.parametrize("no_ranges", [False, True])
def test_an_answer_of_another_length_is_network(
    length: int,
    no_ranges: bool,
    hub: Hub,
    header: Header,
    repos: Repos,
    served: FaultyHub,
    tmp_path: Path,
) -> None:
    weights = repos.place / KEY.repo_id / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:length])
    served.faults.add(Fault(CONTENT, times=None, no_ranges=no_ranges))
    assert reason_of(hub, header, tmp_path / "new") is Reason.NETWORK
    assert not (tmp_path / "new" / WEIGHTS).exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gated": "manual"}, Reason.GATED),
        ({"private": True}, Reason.NOT_FOUND),
        ({"disabled": True}, Reason.DISABLED),
    ],
)
def test_a_closed_door_is_a_reason(
    change: dict[str, object],
    reason: Reason,
    hub: Hub,
    header: Header,
    repos: Repos,
    tmp_path: Path,
) -> None:
    repos.adapter(KEY.repo_id, weights=save(TENSORS), sha=KEY.revision, **change)
    assert reason_of(hub, header, tmp_path) is reason


@pytest.mark.parametrize("file", [f"../{WEIGHTS}", f"/{WEIGHTS}", f"taken/{WEIGHTS}", "x" * 250])
def test_a_path_that_cannot_be_kept_is_corrupt(
    file: str, hub: Hub, header: Header, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "taken").touch()
    assert reason_of(hub, header, into, file) is Reason.CORRUPT
    assert not (tmp_path / WEIGHTS).exists()


def test_offline_is_not_an_adapters_failure(
    hub: Hub, header: Header, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch_tensors(hub, KEY, WEIGHTS, header, is_layer, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's disk that is always full")
def test_a_full_disk_is_not_an_adapters_failure(hub: Hub, header: Header, tmp_path: Path) -> None:
    (tmp_path / f"{WEIGHTS}.incomplete").symlink_to("/dev/full")
    with pytest.raises(IndexWriteError, match="no disk space left to download adapter_model"):
        fetch_tensors(hub, KEY, WEIGHTS, header, is_layer, tmp_path)


def reason_of(hub: Hub, header: Header, into: Path, file: str = WEIGHTS) -> Reason:
    with pytest.raises(AdapterError) as caught:
        fetch_tensors(hub, KEY, file, header, is_even_layer, into)
    assert "\n" not in str(caught.value)
    return caught.value.reason
