"""Who sees what, and the errors that the real client makes of the answers."""

import pytest
from faults import FaultyHub
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session

from hubdelta.hub_server import create_app
from hubdelta.schemas.errors import UsageError

BASE = "meta/base-1b"


@pytest.fixture
def secrets(folder):
    folder.tokens(hf_team=["team", "other/one"], hf_admin="*", hf_nobody=[])
    folder.add_adapter("team/private", hub={"private": True})
    folder.add_adapter("team/gated", hub={"gated": "auto"})
    folder.add_adapter("other/one", hub={"private": True})
    folder.add_adapter("other/two", hub={"private": True})
    folder.add_adapter("open/law")
    return folder


def client(hub, token):
    return HfApi(endpoint=hub.url, token=token)


def ids(api):
    return {model.id for model in api.list_models()}


def test_a_listing_shows_what_the_caller_may_see(secrets, hub):
    assert ids(client(hub, False)) == {"team/gated", "open/law"}
    assert ids(client(hub, "hf_nobody")) == {"team/gated", "open/law"}
    assert ids(client(hub, "hf_team")) == {"team/gated", "open/law", "team/private", "other/one"}
    assert len(ids(client(hub, "hf_admin"))) == 5


@pytest.mark.parametrize("repo_id", ["team/private", "no/where", "no/" + "x" * 90])
@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_nobody", 404)])
def test_missing_and_private_look_alike(secrets, hub, tmp_path, repo_id, token, status):
    api = client(hub, token)
    for call in (
        lambda: api.model_info(repo_id),
        lambda: list(api.list_repo_tree(repo_id)),
        lambda: api.get_paths_info(repo_id, "x"),
        lambda: api.parse_safetensors_file_metadata(repo_id, "adapter_model.safetensors"),
        lambda: api.hf_hub_download(repo_id, "adapter_config.json", cache_dir=tmp_path),
        lambda: api.snapshot_download(repo_id, cache_dir=tmp_path),
    ):
        with pytest.raises(RepositoryNotFoundError) as caught:
            call()
        assert not isinstance(caught.value, GatedRepoError)
        assert caught.value.response.status_code == status


def test_a_token_opens_private_and_gated_repositories(secrets, hub, tmp_path):
    api = client(hub, "hf_team")
    for repo_id in ("team/private", "team/gated", "other/one"):
        assert api.model_info(repo_id).id == repo_id
        assert api.hf_hub_download(repo_id, "adapter_config.json", cache_dir=tmp_path)
        assert api.snapshot_download(repo_id, cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("other/two")


@pytest.mark.parametrize(("token", "status"), [(False, 401), ("hf_nobody", 403)])
def test_a_gated_repository_is_visible_and_its_files_are_not(secrets, hub, tmp_path, token, status):
    api = client(hub, token)
    assert api.model_info("team/gated").gated == "auto"
    assert api.list_repo_files("team/gated")
    for call in (
        lambda: api.hf_hub_download("team/gated", "adapter_config.json", cache_dir=tmp_path),
        lambda: api.parse_safetensors_file_metadata("team/gated", "adapter_model.safetensors"),
    ):
        with pytest.raises(GatedRepoError, match="restricted") as caught:
            call()
        assert caught.value.response.status_code == status
    sha = api.model_info("team/gated").sha
    direct = f"{hub.url}/api/resolve-cache/models/team/gated/{sha}/adapter_config.json"
    assert get_session().get(direct).status_code == 401


def test_a_wrong_token_is_told_apart_from_a_missing_repository(secrets, hub, tmp_path):
    api = client(hub, "hf_wrong")
    for call in (
        lambda: list(api.list_models()),
        lambda: api.model_info("open/law"),
        lambda: api.hf_hub_download("open/law", "adapter_config.json", cache_dir=tmp_path),
    ):
        with pytest.raises(HfHubHTTPError, match="Invalid") as caught:
            call()
        assert not isinstance(caught.value, RepositoryNotFoundError)
        assert caught.value.response.status_code == 401
        assert caught.value.server_message is not None
    answer = get_session().get(
        f"{hub.url}/api/models", headers={"authorization": "Bearer hf_wrong"}
    )
    assert answer.json() == {"error": "Invalid username or password."}


def test_without_configured_tokens_one_for_another_hub_does_no_harm(folder, hub):
    folder.add_adapter("open/law")
    folder.add_adapter("team/private", hub={"private": True})
    assert ids(client(hub, "hf_of_the_real_hub")) == {"open/law"}


def test_a_disabled_repository_is_refused_and_says_so(folder, api, tmp_path):
    folder.add_adapter("ada/law", hub={"disabled": True})
    with pytest.raises(DisabledRepoError):
        api.model_info("ada/law")
    with pytest.raises(DisabledRepoError):
        api.parse_safetensors_file_metadata("ada/law", "adapter_model.safetensors")
    with pytest.raises(LocalEntryNotFoundError) as caught:
        api.hf_hub_download("ada/law", "adapter_config.json", cache_dir=tmp_path)
    assert isinstance(caught.value.__cause__, DisabledRepoError)
    (model,) = api.list_models(expand=["disabled"])
    assert model.disabled is True


def test_a_renamed_repository_is_followed_by_every_verb(folder, hub, api, tmp_path):
    folder.add("old/name", hub={"renamed_to": "older/still"})
    folder.add("older/still", hub={"renamed_to": "new/law ü"})
    folder.add_adapter("new/law ü")
    assert api.model_info("old/name").id == "new/law ü"
    sha = api.model_info("old/name").sha
    assert api.model_info("old/name", revision=sha, expand=["sha"]).sha == sha
    assert "adapter_config.json" in api.list_repo_files("old/name")
    assert api.parse_safetensors_file_metadata("old/name", "adapter_model.safetensors").tensors
    assert api.hf_hub_download("old/name", "adapter_config.json", cache_dir=tmp_path)
    assert api.snapshot_download("old/name", cache_dir=tmp_path)
    for path in (
        "/%s/resolve/main/a%%20b?download=true",
        "/api/models/%s",
        "/api/models/%s/tree/main/a%%20b?recursive=true",
        "/api/resolve-cache/models/%s/" + sha + "/x.txt",
    ):
        answer = get_session().get(hub.url + path % "old/name", follow_redirects=False)
        assert answer.status_code == 307
        assert answer.headers["Location"] == path % "new/law%20%C3%BC"


@pytest.mark.parametrize("target", ["gone/away", "team/private", "old/name"])
def test_a_rename_into_nothing_is_a_missing_repository(folder, api, target):
    folder.add("old/name", hub={"renamed_to": target})
    folder.add_adapter("team/private", hub={"private": True})
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("old/name")


def test_a_private_base_is_not_named_by_its_children(secrets, hub):
    secrets.add_adapter("open/child", base="team/private")
    secrets.add_adapter("other/three", base="open/law", hub={"private": True})
    (model,) = client(hub, False).list_models(search="child", expand=["baseModels"])
    assert model.base_models is None
    (model,) = client(hub, "hf_team").list_models(search="child", expand=["baseModels"])
    assert model.base_models["models"][0]["id"] == "team/private"
    counted = client(hub, False).model_info("open/law", expand=["childrenModelCount"])
    assert counted.children_model_count["adapter"] == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/api/models/ada/law", "/api/repos/create", "/api/models"])
def test_nothing_can_be_written(folder, hub, method, path):
    answer = get_session().request(method, hub.url + path, json={"name": "x"})
    assert (answer.status_code, answer.json()) == (405, {"error": "This Hub is read-only."})


@pytest.mark.parametrize(
    "path", ["/api/datasets/a/b", "/datasets/a/b", "/favicon.ico", "/a/b/c/d/e"]
)
def test_other_addresses_are_not_found(folder, hub, path):
    answer = get_session().get(hub.url + path)
    assert answer.status_code == 404
    assert "models only" in answer.json()["error"]
    assert hub.url in get_session().get(hub.url).text


@pytest.mark.parametrize(
    "text",
    ["tokens: [hf_secret]", "tokens: {hf_secret: {a: b}}", "tokens: {hf_secret: *x}", "tokns: {}"],
)
def test_a_mistake_in_the_settings_is_reported_without_a_token(folder, text):
    (folder.place / ".hub.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"\.hub\.yaml") as caught:
        create_app(folder.place)
    assert "hf_secret" not in str(caught.value)


def test_tokens_can_be_changed_while_it_runs(secrets, hub):
    assert "team/private" in ids(client(hub, "hf_team"))
    secrets.tokens(hf_other="*")
    with pytest.raises(HfHubHTTPError):
        ids(client(hub, "hf_team"))
    assert "team/private" in ids(client(hub, "hf_other"))
    (secrets.place / ".hub.yaml").write_text("tokens: [")
    with pytest.raises(HfHubHTTPError) as caught:
        client(hub, "hf_other").model_info("open/law")
    assert caught.value.response.status_code == 500


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match="DIR/org/name"):
        FaultyHub(tmp_path / "absent")
