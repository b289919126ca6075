"""Downloads: resolve, redirects, ETags and ranges, asked by the real client."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.utils import get_session

MEBIBYTE = 1024 * 1024


def resolve(hub, path, **kwargs):
    return get_session().get(f"{hub.url}/ada/law/resolve/main/{path}", **kwargs)


def test_a_small_file_is_answered_as_recorded(folder, hub, sample):
    redirect, target = sample("resolve_small_file.heads")
    folder.add("ada/law", {"config.json": "{}"})
    oid = hashlib.sha1(b"blob 2\0{}").hexdigest()
    first = get_session().head(
        f"{hub.url}/ada/law/resolve/main/config.json", follow_redirects=False
    )
    assert first.status_code == redirect["status"] == 307
    assert set(map(str.lower, redirect["header"])) <= set(first.headers)
    sha = first.headers["X-Repo-Commit"]
    assert first.headers["X-Linked-Etag"] == f'"{oid}"'
    # The recorded address with this repository's names in it.
    expected = (
        redirect["header"]["Location"][0]
        .replace("google-bert/bert-base-uncased", "ada/law")
        .replace("google-bert%2Fbert-base-uncased", "ada%2Flaw")
        .replace(redirect["header"]["X-Repo-Commit"][0], sha)
        .replace("45a2321a7ecfdaaf60a6c1fd7f5463994cc8907d", oid)
    )
    assert first.headers["Location"] == expected
    second = get_session().head(hub.url + first.headers["Location"])
    assert second.status_code == target["status"] == 200
    assert set(map(str.lower, target["header"])) <= set(second.headers)
    assert second.headers["ETag"] == f'"{oid}"'
    assert second.headers["Content-Type"] == target["header"]["Content-Type"][0]
    assert second.headers["Content-Length"] == "2"


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "big.txt"])
def test_a_git_lfs_file_is_known_by_its_sha256(folder, hub, name):
    content = b"x" * (11 * MEBIBYTE if name == "big.txt" else 5)
    folder.add("ada/law", {name: content})
    digest = hashlib.sha256(content).hexdigest()
    first = resolve(hub, name, follow_redirects=False)
    assert first.status_code == 302
    assert first.headers["X-Linked-Etag"] == f'"{digest}"'
    assert first.headers["X-Linked-Size"] == str(len(content))
    assert urlsplit(first.headers["Location"]).netloc == ""
    metadata = get_hf_file_metadata(hf_hub_url("ada/law", name, endpoint=hub.url), token=False)
    assert (metadata.etag, metadata.size) == (digest, len(content))
    assert metadata.commit_hash == first.headers["X-Repo-Commit"]
    assert metadata.xet_file_data is None
    assert resolve(hub, name).content == content


def test_a_download_is_cached_by_commit_and_etag(folder, hub, api, tmp_path):
    place = folder.add_adapter("ada/law")
    name = "adapter_model.safetensors"
    first = api.hf_hub_download("ada/law", name, cache_dir=tmp_path / "cache")
    assert Path(first).read_bytes() == (place / name).read_bytes()
    assert Path(first).parent.name == api.model_info("ada/law").sha
    hub.requests.clear()
    api.hf_hub_download("ada/law", name, cache_dir=tmp_path / "cache")
    assert {record.method for record in hub.requests} == {"HEAD"}
    (place / name).write_bytes(b"other")
    again = api.hf_hub_download("ada/law", name, cache_dir=tmp_path / "cache")
    assert Path(again).read_bytes() == b"other"


def test_a_snapshot_holds_every_file_and_only_those(folder, api, tmp_path):
    place = folder.add_adapter("ada/law", hub={"likes": 1})
    (place / "checkpoint-1").mkdir()
    (place / "checkpoint-1" / "adapter_config.json").write_text("{}")
    copy = Path(api.snapshot_download("ada/law", local_dir=tmp_path / "copy"))
    found = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith(".cache")} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "checkpoint-1/adapter_config.json",
    }
    some = api.snapshot_download("ada/law", allow_patterns="*.md", cache_dir=tmp_path / "cache")
    assert [path.name for path in Path(some).iterdir()] == ["README.md"]


def test_a_downloaded_folder_can_be_served_in_turn(folder, api, tmp_path):
    folder.add_adapter("ada/law")
    api.snapshot_download("ada/law", local_dir=folder.place / "mirror" / "law")
    assert api.model_info("mirror/law").sha == api.model_info("ada/law").sha


def test_a_safetensors_header_is_one_ranged_read(folder, hub, api):
    place = folder.add_adapter("ada/law")
    weights = place / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + bytes(MEBIBYTE))
    metadata = api.parse_safetensors_file_metadata("ada/law", "adapter_model.safetensors")
    assert metadata.tensors["lora_A"].shape == [4, 8]
    assert [record.status for record in hub.requests] == [302, 206]
    assert hub.requests[-1].bytes == 100_001


@pytest.mark.parametrize(
    ("asked", "status", "content", "stated"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        (None, 200, b"0123456789", None),
    ],
)
@pytest.mark.parametrize("name", ["small.txt", "weights.bin"])
def test_ranges_are_honored(folder, hub, name, asked, status, content, stated):
    folder.add("ada/law", {name: b"0123456789"})
    answer = resolve(hub, name, headers={"Range": asked} if asked else {})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("Content-Range") == stated
    assert answer.headers["Content-Length"] == str(len(content))


def test_a_range_of_an_older_content_gives_the_whole_file(folder, hub):
    folder.add("ada/law", {"weights.bin": b"0123456789"})
    headers = {"Range": "bytes=2-", "If-Range": '"another etag"'}
    assert resolve(hub, "weights.bin", headers=headers).content == b"0123456789"


def test_an_empty_file_is_a_file(folder, api, tmp_path):
    folder.add("ada/law", {"empty.txt": "", "empty.safetensors": b""})
    for name in ("empty.txt", "empty.safetensors"):
        assert Path(api.hf_hub_download("ada/law", name, cache_dir=tmp_path)).read_bytes() == b""


def test_a_missing_file_is_said_to_be_one_and_remembered(folder, api, tmp_path):
    folder.add_adapter("ada/law")
    with pytest.raises(RemoteEntryNotFoundError) as caught:
        api.hf_hub_download("ada/law", "absent.bin", cache_dir=tmp_path)
    assert caught.value.response.headers["X-Repo-Commit"] == api.model_info("ada/law").sha
    assert list(tmp_path.rglob(".no_exist/*/absent.bin"))
    assert not api.file_exists("ada/law", "absent.bin")
    assert api.file_exists("ada/law", "adapter_config.json")


def test_a_page_among_the_files_does_not_run_in_a_browser(folder, hub):
    folder.add("ada/law", {"index.html": "<script>alert(1)</script>"})
    answer = resolve(hub, "index.html")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_large_file_arrives_whole(folder, api, tmp_path):
    content = b"".join(number.to_bytes(4, "big") * 64 for number in range(40_000))
    folder.add("ada/law", {"weights.bin": content})
    path = api.hf_hub_download("ada/law", "weights.bin", cache_dir=tmp_path)
    assert Path(path).read_bytes() == content
