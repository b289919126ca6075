"""Files of adapters over HTTP: exactly those asked for, whole, at their commit, or a reason."""

import errno
import hashlib
import json
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import Fault, FaultyHub
from huggingface_hub import constants
from small_repos import BASE, Repos, tensors

from hubdelta.crawler.base import find_base
from hubdelta.crawler.base_download import fetch_base
from hubdelta.crawler.downloads import (
    fetch,
    file_info,
    small_file,
    weight_header,
)
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.hub_server import keep_revision
from hubdelta.schemas.errors import AdapterError, HubError, IndexWriteError, Reason
from hubdelta.schemas.keys import AdapterKey

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


@pytest.fixture
def key(hub: Hub, repos: Repos) -> AdapterKey:
    repos.adapter("org/a", weights=tensors(1000))
    return key_of(hub, "org/a")


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> list[float]:
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=pauses.append))
    return pauses


def key_of(hub: Hub, repo_id: str) -> AdapterKey:
    return AdapterKey(repo_id, "", hub.model(repo_id).sha)


def test_the_files_asked_for_arrive_and_no_others(
    hub: Hub, key: AdapterKey, repos: Repos, into: Path
) -> None:
    paths = fetch(hub, key, [CONFIG, WEIGHTS], into)
    assert paths == [into / CONFIG, into / WEIGHTS]
    for path in paths:
        assert path.read_bytes() == (repos.place / "org/a" / path.name).read_bytes()
    seen = {path.name for path in into.iterdir()}
    assert seen == {CONFIG, WEIGHTS, ".cache"}, "and huggingface_hub's own notes beside them"


def test_files_keep_their_path_below_the_folder(hub: Hub, repos: Repos, into: Path) -> None:
    repos.adapter("org/deep", folder="x/y/")
    (path,) = fetch(hub, key_of(hub, "org/deep"), [f"x/y/{WEIGHTS}"], into)
    assert path == into / "x/y" / WEIGHTS


def test_a_download_asks_nothing_of_the_api(
    hub: Hub, key: AdapterKey, served: FaultyHub, into: Path
) -> None:
    before = len(served.requests)
    fetch(hub, key, [WEIGHTS], into)
    asked = [(record.method, record.path.split("/")[-4]) for record in served.requests[before:]]
    # One request fewer on the real Hub, whose redirect to another host is not followed by HEAD.
    assert asked == [("HEAD", "a"), ("HEAD", "org"), ("GET", "org")]
    assert not any(r.path.startswith("/api/models") for r in served.requests[before:])


def test_a_repo_that_moved_on_is_fetched_at_the_cataloged_commit(
    hub: Hub, key: AdapterKey, repos: Repos, into: Path
) -> None:
    keep_revision(repos.place, "org/a")
    repos.adapter("org/a", weights=tensors(3))
    (path,) = fetch(hub, key, [WEIGHTS], into)
    assert path.read_bytes() == tensors(1000)
    assert weight_header(hub, key, WEIGHTS).tensors["lora_A"].shape == (1000, 2)


def test_a_repo_that_lost_the_cataloged_commit_is_not_fetched_at_another(
    hub: Hub, key: AdapterKey, repos: Repos, into: Path
) -> None:
    repos.adapter("org/a", weights=tensors(3))
    for call in (
        lambda: fetch(hub, key, [WEIGHTS], into),
        lambda: weight_header(hub, key, WEIGHTS),
        lambda: file_info(hub, key, [WEIGHTS]),
    ):
        with pytest.raises(AdapterError, match="the next crawl finds the current one") as caught:
            call()
        assert caught.value.reason is Reason.NOT_FOUND


def test_a_renamed_repo_is_followed(hub: Hub, key: AdapterKey, repos: Repos, into: Path) -> None:
    shutil.move(repos.place / "org/a", repos.place / "org/b")
    repos.add("org/a", renamed_to="org/b")
    assert fetch(hub, key, [WEIGHTS], into)[0].read_bytes() == tensors(1000)
    assert weight_header(hub, key, WEIGHTS).file_bytes == len(tensors(1000))
    assert file_info(hub, key, [WEIGHTS])[WEIGHTS].size == len(tensors(1000))


def test_sizes_and_hashes_come_in_one_request(hub: Hub, key: AdapterKey) -> None:
    before = hub.requests
    info = file_info(hub, key, [CONFIG, WEIGHTS])
    assert hub.requests == before + 1
    assert info[WEIGHTS].size == len(tensors(1000))
    assert info[WEIGHTS].sha256 == hashlib.sha256(tensors(1000)).hexdigest()
    assert info[CONFIG].sha256 is None


def test_a_header_is_read_without_the_weights(hub: Hub, repos: Repos, served: FaultyHub) -> None:
    repos.adapter("org/big", weights=tensors(200_000))
    header = weight_header(hub, key_of(hub, "org/big"), WEIGHTS)
    assert header.tensors["lora_A"].dtype == "F32"
    assert header.tensors["lora_A"].shape == (200_000, 2)
    assert (
        header.header_bytes + header.layout.data_bytes
        == header.file_bytes
        == 1_600_000 + (header.header_bytes)
    )
    assert served.requests[-1].headers["range"] == "bytes=0-99999"
    assert served.requests[-1].bytes == 100_000


def test_a_long_header_takes_a_second_request(hub: Hub, repos: Repos) -> None:
    header = {
        f"layer.{i}.lora_A.weight": {"dtype": "F16", "shape": [0, 4], "data_offsets": [0, 0]}
        for i in range(3000)
    }
    text = json.dumps(header).encode()
    repos.adapter("org/many", weights=len(text).to_bytes(8, "little") + text)
    assert len(weight_header(hub, key_of(hub, "org/many"), WEIGHTS).tensors) == 3000


def laid_out(places: list[tuple[int, int]]) -> bytes:
    """A file whose tensors' data lies from and to these bytes."""
    header = {
        f"t{number}": {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
        for number, (start, end) in enumerate(places)
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(max(end for _, end in places))


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"short",
        tensors(1000)[:-5],
        tensors(1000)[:40],
        tensors(1000) + b"more",
        (2**60).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"nope",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": {}}',
        (2000).to_bytes(8, "little") + b"[" * 2000,
        laid_out([(0, 4), (2, 6)]),
        laid_out([(0, 4), (5, 8)]),
        laid_out([(0, 4), (4, 2), (2, 8)]),
        laid_out([(4, 8)]),
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    ],
    ids=lambda weights: repr(weights[:20]),
)
def test_what_is_no_whole_safetensors_file_is_corrupt(
    weights: bytes, hub: Hub, repos: Repos
) -> None:
    repos.adapter("org/bad", weights=weights)
    with pytest.raises(AdapterError) as caught:
        weight_header(hub, key_of(hub, "org/bad"), WEIGHTS)
    assert caught.value.reason is Reason.CORRUPT
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason", "text"),
    [
        ({"gated": "manual"}, Reason.GATED, r"request access at http://.*/org/a, then set"),
        ({"private": True}, Reason.NOT_FOUND, "or hidden"),
        ({"disabled": True}, Reason.DISABLED, "switched"),
    ],
)
def test_a_closed_door_is_a_reason_and_what_to_do(
    change: dict[str, object],
    reason: Reason,
    text: str,
    hub: Hub,
    key: AdapterKey,
    repos: Repos,
    into: Path,
) -> None:
    repos.adapter("org/a", weights=tensors(1000), **change)
    for call in (
        lambda: fetch(hub, key, [WEIGHTS], into),
        lambda: weight_header(hub, key, WEIGHTS),
    ):
        with pytest.raises(AdapterError, match=text) as caught:
            call()
        assert caught.value.reason is reason


def test_a_file_that_the_commit_does_not_hold_is_no_weights(
    hub: Hub, key: AdapterKey, into: Path
) -> None:
    for call in (
        lambda: fetch(hub, key, ["adapter_model.bin"], into),
        lambda: weight_header(hub, key, "adapter_model.bin"),
        lambda: file_info(hub, key, ["adapter_model.bin"]),
    ):
        with pytest.raises(AdapterError, match=r"adapter_model\.bin") as caught:
            call()
        assert caught.value.reason is Reason.NO_WEIGHTS


def test_a_deleted_repo_is_not_found(hub: Hub, key: AdapterKey, repos: Repos, into: Path) -> None:
    shutil.rmtree(repos.place / "org/a")
    with pytest.raises(AdapterError) as caught:
        fetch(hub, key, [WEIGHTS], into)
    assert caught.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize("path", ["/org/a/resolve/*", "/api/resolve-cache/*"])
@pytest.mark.parametrize("status", [429, 503, 504])
def test_a_stumbling_hub_is_asked_again(
    path: str,
    status: int,
    hub: Hub,
    key: AdapterKey,
    served: FaultyHub,
    into: Path,
    no_pauses: list[float],
) -> None:
    served.faults.add(Fault(path, status=status, reset=0))
    assert fetch(hub, key, [WEIGHTS], into)[0].read_bytes() == tensors(1000)
    served.faults.add(Fault(path, status=status, reset=0))
    assert weight_header(hub, key, WEIGHTS).layout.data_bytes == 8000


def test_a_body_cut_short_is_asked_for_again(
    hub: Hub, key: AdapterKey, served: FaultyHub, into: Path, no_pauses: list[float]
) -> None:
    served.faults.add(Fault("/api/resolve-cache/*", method="GET", cut_after=5000))
    assert fetch(hub, key, [WEIGHTS], into)[0].read_bytes() == tensors(1000)
    assert len(no_pauses) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault("/*/resolve*", times=None, status=503),
        Fault("/api/resolve-cache/*", times=None, status=500),
        Fault("/api/resolve-cache/*", times=None, cut_after=0),
        Fault("/*/resolve*", times=None, delay=0.6),
    ],
    ids=["head 503", "get 500", "cut", "timeout"],
)
def test_a_hub_that_stays_away_is_network(
    fault: Fault,
    settings: HubSettings,
    key: AdapterKey,
    served: FaultyHub,
    into: Path,
    no_pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.1)
    served.faults.add(replace(fault))
    with Hub(replace(settings, timeout=0.1, attempts=2)) as hub:
        for call in (
            lambda: fetch(hub, key, [WEIGHTS], into),
            lambda: weight_header(hub, key, WEIGHTS),
        ):
            with pytest.raises(AdapterError) as caught:
                call()
            assert caught.value.reason is Reason.NETWORK
            assert "\n" not in str(caught.value)
    assert not (into / WEIGHTS).exists()


@pytest.mark.parametrize("times", [1, 2])
def test_bytes_that_differ_from_the_record_are_fetched_once_more_and_then_corrupt(
    times: int,
    hub: Hub,
    repos: Repos,
    served: FaultyHub,
    into: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = repos.adapter("org/a", weights=tensors(1000), sha="5" * 40) / WEIGHTS
    rotten = tensors(1000)[:-1] + b"!"
    # Between HEAD, which says what the Hub has on record, and GET the file is another.
    served.faults.add(
        Fault(
            "/org/a/resolve/*",
            times=None,
            before_answer=lambda: place.write_bytes(tensors(1000)),
        )
    )
    served.faults.add(
        Fault(
            "/api/resolve-cache/*",
            method="GET",
            times=times,
            before_answer=lambda: place.write_bytes(rotten),
        )
    )
    key = AdapterKey("org/a", "", "5" * 40)
    with caplog.at_level(logging.WARNING):
        if times == 1:
            assert fetch(hub, key, [WEIGHTS], into)[0].read_bytes() == tensors(1000)
        else:
            with pytest.raises(AdapterError) as caught:
                fetch(hub, key, [WEIGHTS], into)
            assert caught.value.reason is Reason.CORRUPT
    assert caplog.text.count("does not have the hash") == times


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("etag", ["real", "artifactory"])
def test_a_small_file_altered_on_its_way_is_asked_for_once_more_and_then_network(
    etag: str, times: int | None, hub: Hub, key: AdapterKey, repos: Repos, served: FaultyHub
) -> None:
    content = (repos.place / "org/a" / CONFIG).read_bytes()
    altered = content.replace(b'"r": 8', b'"r": 9')
    assert len(altered) == len(content)
    headers = {} if etag == "real" else {"etag": f'"{hashlib.sha1(content).hexdigest()}"'}
    served.faults.add(Fault("*", times=None, headers=headers))
    assert small_file(hub, key, CONFIG, limit=1000) == content
    served.faults.add(Fault(f"*/{CONFIG}", method="GET", times=times, after=1, body=altered))
    if times:
        assert small_file(hub, key, CONFIG, limit=1000) == content
        return
    with pytest.raises(AdapterError, match="something on the network alters it") as caught:
        small_file(hub, key, CONFIG, limit=1000)
    assert caught.value.reason is Reason.NETWORK


def test_a_server_whose_etag_is_no_hash_is_believed(
    hub: Hub, key: AdapterKey, served: FaultyHub
) -> None:
    headers = {"etag": '"v1"', "x-linked-etag": None}
    served.faults.add(Fault("*", times=None, body=b"{}", headers=headers))
    assert small_file(hub, key, CONFIG, limit=1000) == b"{}"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/api/resolve-cache/*", cut_after=3),
        Fault("/api/resolve-cache/*", body=b"short", headers={"content-length": None}),
        Fault("*", headers={"content-range": "bytes 0-99/50"}),
        Fault("*", headers={"content-range": "bytes 5-99/100"}),
        Fault("*", headers={"content-range": "bytes 0-9/*", "x-repo-commit": "9" * 40}),
        Fault("*", headers={"content-range": f"bytes 0-{'9' * 5000}/{'9' * 5000}"}),
        Fault("*", headers={"content-range": None}),
        Fault("*", headers={"content-range": "elsewhere"}),
        Fault("*", headers={"x-linked-size": "12345"}),
        Fault("*", headers={"x-repo-commit": "9" * 40}),
        Fault("*", status=416, headers={"content-range": "bytes */77"}),
    ],
    ids=lambda fault: f"{fault.cut_after} {fault.body} {fault.headers}"[:60],
)
def test_what_is_not_the_part_asked_for_is_asked_for_again_and_then_network(
    fault: Fault, hub: Hub, key: AdapterKey, served: FaultyHub, no_pauses: list[float]
) -> None:
    calls = (
        lambda: weight_header(hub, key, WEIGHTS).file_bytes,
        lambda: len(small_file(hub, key, WEIGHTS, limit=10_000)),
    )
    for call in calls:
        served.faults.add(replace(fault, times=2 if fault.path == "*" else 1))
        assert call() == len(tensors(1000))
        served.faults.add(replace(fault, times=None))
        with pytest.raises(AdapterError) as caught:
            call()
        assert caught.value.reason is Reason.NETWORK, caught.value
        served.faults.clear()


def test_a_full_disk_is_not_an_adapters_failure(
    hub: Hub, key: AdapterKey, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", full)
    with pytest.raises(IndexWriteError, match="no disk space left to download adapter_model"):
        fetch(hub, key, [WEIGHTS], into)


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE]
)
def test_a_disk_that_takes_no_file_is_not_an_adapters_failure(
    number: int, hub: Hub, key: AdapterKey, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number), str(into / WEIGHTS))

    monkeypatch.setattr("huggingface_hub.file_download._chmod_and_move", refuse)
    with pytest.raises(IndexWriteError):
        fetch(hub, key, [WEIGHTS], into)


@pytest.mark.parametrize(
    "file",
    [
        "x" * 255,  # a name, but not with a suffix of huggingface_hub's own
        f"taken/{WEIGHTS}",  # a file is where a folder is needed
    ],
)
def test_a_path_that_cannot_be_kept_is_the_adapters_failure(
    file: str, hub: Hub, repos: Repos, into: Path
) -> None:
    (into / "taken").touch()
    repos.adapter("org/odd", files={file: b"x"})
    with pytest.raises(AdapterError) as caught:
        fetch(hub, key_of(hub, "org/odd"), [file], into)
    assert caught.value.reason is Reason.CORRUPT
    assert "\n" not in str(caught.value)


def test_offline_is_not_an_adapters_failure(
    hub: Hub, key: AdapterKey, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch(hub, key, [WEIGHTS], into)


def test_threads_share_a_hub(hub: Hub, repos: Repos, tmp_path: Path) -> None:
    keys = []
    for number in range(12):
        repos.adapter(f"org/a{number}", weights=tensors(100 + number))
        keys.append(key_of(hub, f"org/a{number}"))
    before = hub.requests

    def get(key: AdapterKey) -> int:
        into = tmp_path / key.repo_id
        into.mkdir(parents=True)
        header = weight_header(hub, key, WEIGHTS)
        return header.file_bytes - fetch(hub, key, [WEIGHTS], into)[0].stat().st_size

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(get, keys)) == [0] * 12
    assert hub.requests == before + 12 * (2 + 3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_base_comes_through_the_ordinary_cache(
    hub: Hub, repos: Repos, served: FaultyHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos.model(
        BASE,
        files={
            "config.json": b"{}",
            "tokenizer.json": b"{}",
            "model.safetensors": tensors(),
            "pytorch_model.bin": b"x",
            "onnx/model.safetensors": tensors(),
            "modeling_evil.py": b"import os",
            "consolidated.safetensors": tensors(),
        },
    )
    base = find_base(hub, BASE)
    folder = fetch_base(hub, *base[:2])
    assert folder.is_relative_to(cache)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    before = len(served.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_base(hub, *base[:2]) == folder
    assert len(served.requests) == before


def test_a_base_comes_with_the_shards_that_its_index_names(
    hub: Hub, repos: Repos, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = "ft-model-00001-of-00001.safetensors"
    repos.model(
        "lab/tuned",
        files={
            "config.json": b"{}",
            "model.safetensors.index.json": f'{{"weight_map": {{"a": "{shard}"}}}}'.encode(),
            shard: tensors(),
            "pytorch_model.bin": b"x",
        },
    )
    base = find_base(hub, "lab/tuned")[:2]
    folder = fetch_base(hub, *base)
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "config.json",
        shard,
        "model.safetensors.index.json",
    ]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch_base(hub, *base) == folder


@pytest.mark.parametrize(
    "names",
    [
        ["pytorch_model.bin"],
        ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
    ],
)
def test_a_base_without_safetensors_comes_as_bin(
    names: list[str], hub: Hub, repos: Repos, cache: Path
) -> None:
    repos.model("meta/old", files={"config.json": b"{}"} | dict.fromkeys(names, b"{}"))
    folder = fetch_base(hub, *find_base(hub, "meta/old")[:2])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", *names]


def test_a_gated_base_says_what_to_do(hub: Hub, repos: Repos, cache: Path) -> None:
    repos.model("meta/gated", gated="manual")
    with pytest.raises(HubError, match=r"request access at .*/meta/gated, then set HF_TOKEN"):
        fetch_base(hub, *find_base(hub, "meta/gated")[:2])


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_of_a_base_altered_on_its_way_is_fetched_once_more_and_then_told(
    file: str, times: int | None, hub: Hub, repos: Repos, served: FaultyHub, cache: Path
) -> None:
    files = {"config.json": b"{ }", "tokenizer.json": b"{}", "model.safetensors": tensors()}
    repos.model(BASE, files=files)
    altered = files[file][:-1] + b"!"
    served.faults.add(
        Fault(f"/api/resolve-cache/*/{file}", method="GET", times=times, body=altered)
    )
    base = find_base(hub, BASE)
    if times:
        assert (fetch_base(hub, *base[:2]) / file).read_bytes() == files[file]
        return
    with pytest.raises(HubError, match=f"{file} of {BASE} arrived twice without the hash"):
        fetch_base(hub, *base[:2])


@pytest.mark.parametrize("body", [b"{}", b"null", b"3", b"<html>"])
def test_an_answer_about_files_that_is_none_is_network(
    body: bytes, hub: Hub, key: AdapterKey, served: FaultyHub, no_pauses: list[float]
) -> None:
    served.faults.add(Fault("/api/models/*/paths-info/*", body=body))
    assert file_info(hub, key, [WEIGHTS])[WEIGHTS].size == len(tensors(1000))
    served.faults.add(Fault("/api/models/*/paths-info/*", times=None, body=body))
    with pytest.raises(AdapterError) as caught:
        file_info(hub, key, [WEIGHTS])
    assert caught.value.reason is Reason.NETWORK


@pytest.mark.parametrize("body", [b"[1]", b'[{"type": "file", "path": "x", "size": "1"}]'])
def test_an_entry_about_a_file_that_is_none_is_network(
    body: bytes, hub: Hub, key: AdapterKey, served: FaultyHub
) -> None:
    served.faults.add(Fault("/api/models/*/paths-info/*", body=body))
    with pytest.raises(AdapterError) as caught:
        file_info(hub, key, [WEIGHTS])
    assert caught.value.reason is Reason.NETWORK


@pytest.mark.parametrize("trouble", [{"cut_after": 1}, {"bytes_per_second": 50}])
def test_a_download_that_brings_next_to_nothing_each_time_ends(
    trouble: dict[str, float],
    settings: HubSettings,
    key: AdapterKey,
    served: FaultyHub,
    into: Path,
    no_pauses: list[float],
) -> None:
    served.faults.add(Fault("/api/resolve-cache/*", method="GET", times=None, **trouble))  # type: ignore[arg-type]
    with Hub(replace(settings, timeout=0.2)) as hub, pytest.raises(AdapterError) as caught:
        fetch(hub, key, [WEIGHTS], into)
    assert caught.value.reason is Reason.NETWORK
    assert hub.requests <= 3 * settings.attempts
