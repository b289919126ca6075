"""The folder behind the Hub: changes, links, broken settings, and what is never served."""

import http.client
import logging
import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import get_session

from hubdelta.hub_server import keep_revision
from hubdelta.hub_server.blobs import BlobHashes
from hubdelta.hub_server.repository import HubFolder
from hubdelta.hub_server.snapshot import look_at
from hubdelta.schemas.errors import UsageError


def ids(api):
    return {model.id for model in api.list_models()}


def raw_get(hub, path):
    """A request whose path no client library has tidied."""
    address = urlsplit(hub.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.putrequest("GET", path, skip_host=False)
    connection.endheaders()
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def test_changes_are_seen_at_once(folder, api):
    place = folder.add_adapter("ada/law")
    assert ids(api) == {"ada/law"}
    sha = api.model_info("ada/law").sha
    folder.add_adapter("ada/math")
    assert ids(api) == {"ada/law", "ada/math"}
    (place / "README.md").write_text("---\ntags: [fresh]\n---\n")
    assert [model.id for model in api.list_models(filter="fresh")] == ["ada/law"]
    assert api.model_info("ada/law").sha != sha
    (place / ".hub.yaml").write_text("private: true")
    assert ids(api) == {"ada/math"}
    (place / ".hub.yaml").unlink()
    place.rename(folder.place / "ada" / "moved")
    assert ids(api) == {"ada/moved", "ada/math"}
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ada/law")


def test_a_listing_may_be_as_old_as_allowed_and_a_repository_never(folder):
    folder.add_adapter("ada/law")
    lazy = HubFolder(folder.place, rescan_seconds=3600)
    assert [repository.id for repository in lazy.all()] == ["ada/law"]
    folder.add_adapter("ada/math")
    assert [repository.id for repository in lazy.all()] == ["ada/law"]
    assert lazy.get("ada/math") is not None


def test_an_unchanged_file_is_hashed_once(folder):
    place = folder.add("ada/law", {"weights.bin": b"12345"})
    time.sleep(0.06)
    hashes = BlobHashes()
    (file,) = look_at(place).files
    first = hashes.of(file)
    assert hashes.of(file) is first
    (place / "weights.bin").write_bytes(b"54321")
    os.utime(place / "weights.bin", ns=(file.mtime_ns, file.mtime_ns))
    (file,) = look_at(place).files
    assert hashes.of(file) != first


def test_two_contents_of_one_clock_tick_are_told_apart(folder):
    served = HubFolder(folder.place)
    commits = set()
    for number in range(100, 200):
        folder.add("ada/law", {"a.txt": str(number)}, hub={"likes": number})
        repository = served.get("ada/law")
        assert repository.settings.likes == number
        commits.add(repository.current.sha)
    assert len(commits) == 100


def test_what_is_not_the_repositorys_is_never_served(folder, hub, api):
    place = folder.add(
        "ada/law",
        {
            "a.txt": "",
            ".gitattributes": "",
            ".git/config": "secret",
            ".cache/huggingface/x": "secret",
            "sub/.git/config": "secret",
            "sub/.hub.yaml": "secret",
            "sub/.cache": "a file like any other",
        },
        hub={"likes": 1},
    )
    keep_revision(folder.place, "ada/law")
    assert api.list_repo_files("ada/law") == [".gitattributes", "a.txt", "sub/.cache"]
    for path in (".hub.yaml", ".git/config", ".cache/huggingface/x", "sub/.hub.yaml"):
        with pytest.raises(RemoteEntryNotFoundError):
            api.hf_hub_download("ada/law", path, cache_dir=folder.place.parent / "cache")
    assert [len(kept.name) for kept in (place / ".revisions").iterdir()] == [40]
    folder.tokens(x="*")
    (folder.place / ".hidden" / "repo").mkdir(parents=True)
    assert ids(api) == {"ada/law"}


@pytest.mark.parametrize(
    "path",
    [
        "/ada/law/resolve/main/../../../secret.txt",
        "/ada/law/resolve/main/..%2F..%2F..%2Fsecret.txt",
        "/ada/law/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/ada/law/resolve/main//etc/passwd",
        "/ada/law/resolve/main/%2Fetc%2Fpasswd",
        "/ada/law/resolve/main/sub/../a.txt%00.png",
        "/ada/law/resolve/..%2F..%2F..%2Fhub/a.txt",
        "/../secret/resolve/main/secret.txt",
        "/%2e%2e/secret/resolve/main/secret.txt",
        "/ada/%2e%2e/resolve/main/law/a.txt",
        "/ada/law%00/resolve/main/a.txt",
        "/ada/" + "x" * 5000 + "/resolve/main/a.txt",
        "/api/models/%2e%2e/secret",
        "/api/models/ada/law/tree/main/..%2F..",
        "/api/resolve-cache/models/ada/law/main/..%2F..%2Fsecret.txt",
        "/api/resolve-cache/models/ada/law/..%2Fmain/a.txt",
    ],
)
def test_no_path_leads_out_of_a_repository(folder, hub, path):
    folder.add("ada/law", {"a.txt": "public"})
    (folder.place.parent / "secret").mkdir()
    for place in (folder.place.parent, folder.place.parent / "secret", folder.place):
        (place / "secret.txt").write_text("SECRET")
    status, body = raw_get(hub, path)
    assert status in (401, 404)
    assert b"SECRET" not in body
    assert b"root:" not in body


def test_links_are_followed_only_within_the_repository(folder, api, tmp_path, caplog):
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    other = folder.add_adapter("team/private", hub={"private": True})
    place = folder.add("ada/law", {"sub/real.txt": "real"}, hub={"likes": 1})
    (place / "good.txt").symlink_to("sub/real.txt")
    (place / "absolute.txt").symlink_to(secret)
    (place / "relative.txt").symlink_to("../../../secret.txt")
    (place / "neighbor.bin").symlink_to(other / "adapter_model.safetensors")
    (place / "settings.txt").symlink_to(".hub.yaml")
    (place / "folder").symlink_to(tmp_path, target_is_directory=True)
    (place / "dangling").symlink_to("nowhere")
    (place / "itself").symlink_to("itself")
    with caplog.at_level(logging.WARNING):
        assert api.list_repo_files("ada/law") == ["good.txt", "sub/real.txt"]
    assert "absolute.txt" in caplog.text
    path = api.hf_hub_download("ada/law", "good.txt", cache_dir=tmp_path / "cache")
    assert Path(path).read_text() == "real"


def test_an_operator_may_link_a_repository_or_an_organization(folder, api, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "org" / "name").mkdir(parents=True)
    (elsewhere / "org" / "name" / "a.txt").write_text("")
    (folder.place / "ada").mkdir()
    (folder.place / "ada" / "linked").symlink_to(elsewhere / "org" / "name")
    (folder.place / "org").symlink_to(elsewhere / "org")
    assert ids(api) == {"ada/linked", "org/name"}
    assert api.list_repo_files("ada/linked") == ["a.txt"]


def test_a_linked_revision_is_not_served(folder, api, tmp_path):
    place = folder.add("ada/law", {"a.txt": ""})
    (place / ".revisions").mkdir()
    (place / ".revisions" / ("a" * 40)).symlink_to(tmp_path)
    assert not api.revision_exists("ada/law", "a" * 40)


def test_special_files_and_names_are_left_out(folder, api):
    place = folder.add("ada/law", {"a.txt": ""})
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(place / "s"))
        (place / os.fsdecode(b"caf\xe9")).write_text("")
        assert api.list_repo_files("ada/law") == ["a.txt"]
        assert ids(api) == {"ada/law"}


@pytest.mark.parametrize(
    "text",
    [
        "privte: true",
        "private: yes please",
        "private: 'true'",
        "gated: sometimes",
        "likes: -1",
        "downloads: many",
        "createdAt: yesterday",
        "renamed_to: nowhere",
        "sha: main",
        "[",
        "- private",
        "private: true\nprivate",
    ],
)
def test_a_repository_whose_settings_are_wrong_is_not_served(folder, api, caplog, text):
    folder.add_adapter("ada/law")
    folder.add_adapter("ada/math")
    (folder.place / "ada/law/.hub.yaml").write_text(text)
    assert ids(api) == {"ada/math"}
    assert ids(api) == {"ada/math"}
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ada/law")
    complaints = [line for line in caplog.messages if "ada/law/.hub.yaml" in line]
    assert len(complaints) == 1


def test_a_file_that_cannot_be_read_takes_only_its_repository_away(folder, hub, api, monkeypatch):
    folder.add_adapter("ada/law")
    folder.add_adapter("ada/math")
    target = folder.place / "ada/law/adapter_model.safetensors"
    if os.geteuid() == 0:  # permissions do not stop root: let the disk fail instead
        real = Path.open

        def failing(self, *args, **kwargs):
            if self == target:
                raise OSError(5, "Input/output error", str(self))
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Path, "open", failing)
    else:
        target.chmod(0)
    assert {model.id for model in api.list_models(expand=["sha"])} == {"ada/math"}
    answer = get_session().get(f"{hub.url}/api/models/ada/law")
    assert answer.status_code == 500
    assert str(folder.place) not in answer.text


def test_names_of_repositories_may_be_odd(folder, hub, api):
    odd = 'ada/it\'s <b>"bold"</b> & ü'.replace("</b>", "[b]")
    folder.add_adapter(odd)
    assert ids(api) == {odd}
    status, _ = raw_get(
        hub, "/api/models/ada/it%27s%20%3Cb%3E%22bold%22%5Bb%5D%20%26%20%C3%BC?expand=sha"
    )
    assert status == 200


def test_files_beside_the_repositories_are_no_repositories(folder, api):
    (folder.place / "README.md").write_text("")
    (folder.place / "ada").mkdir()
    (folder.place / "ada" / "notes.txt").write_text("")
    assert ids(api) == set()


def test_a_revision_of_nothing_cannot_be_kept(folder):
    with pytest.raises(UsageError, match="no/where"):
        keep_revision(folder.place, "no/where")
