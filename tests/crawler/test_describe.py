"""Adapters named by hand."""

import pytest
import yaml
from faults import Fault, FaultyHub
from small_repos import BASE, Repos, tensors

from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub
from hubdelta.hub_server import keep_revision
from hubdelta.schemas.errors import AdapterError, HubError, Reason
from hubdelta.schemas.keys import AdapterName


def name(text: str) -> AdapterName:
    return AdapterName.parse(text)


def test_a_name_becomes_a_row_at_todays_commit(hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    (row,) = describe(hub, name("org/a"), BASE, run_id="r")
    assert (row.repo_id, row.subfolder, row.kind) == ("org/a", "", "adapter")
    assert (row.base, row.canonical_base, row.evidence, row.run_id) == (BASE, BASE, "named", "r")
    assert row.weights_files == ["adapter_model.safetensors"]
    assert hub.requests == 1


def test_a_commit_and_a_branch_are_resolved(hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    old = keep_revision(repos.place, "org/a")
    repos.adapter("org/a", weights=tensors(8))
    (then,) = describe(hub, name(f"org/a@{old}"), BASE)
    (now,) = describe(hub, name("org/a@main"), BASE)
    assert then.revision == old
    assert len(now.revision) == 40
    assert now.revision != old


def test_adapters_in_folders_are_found_one_by_one_and_all_together(hub: Hub, repos: Repos) -> None:
    for folder in ("x/", "y/", "y/checkpoint-3/"):
        repos.adapter("org/a", folder=folder)
    assert [row.subfolder for row in describe(hub, name("org/a"), BASE)] == ["x", "y"]
    assert [row.subfolder for row in describe(hub, name("org/a/y"), BASE)] == ["y"]
    (row,) = describe(hub, name("org/a/y/checkpoint-3"), BASE)
    assert row.weights_files == ["y/checkpoint-3/adapter_model.safetensors"]
    with pytest.raises(AdapterError, match="there is one in: x, y, y/checkpoint-3") as caught:
        describe(hub, name("org/a/z"), BASE)
    assert caught.value.reason is Reason.NO_WEIGHTS


def test_the_root_goes_before_folders(hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    repos.adapter("org/a", folder="x/")
    assert [row.subfolder for row in describe(hub, name("org/a"), BASE)] == [""]


def test_a_whole_model_at_the_root_goes_before_an_adapter_in_a_folder(
    hub: Hub, repos: Repos, caplog: pytest.LogCaptureFixture
) -> None:
    repos.model("org/both", of=BASE, relation="finetune")
    repos.adapter("org/both", folder="adapter/", card={"base_model_relation": "finetune"})
    (row,) = describe(hub, name("org/both"), BASE)
    assert (row.kind, row.subfolder, row.relation) == ("full", "", "finetune")
    assert not caplog.records
    (row,) = describe(hub, name("org/both/adapter"), BASE)
    assert (row.kind, row.subfolder, row.relation) == ("adapter", "adapter", "adapter")


def test_a_whole_model_can_be_named(hub: Hub, repos: Repos) -> None:
    repos.model("org/full")
    (row,) = describe(hub, name("org/full"), BASE)
    assert (row.kind, row.weights_files) == ("full", ["model.safetensors"])


@pytest.mark.parametrize("folder", ["best@f1", "a@b/c@d", "50% data", "what?", "a#b", "微调 v1"])
def test_a_folder_is_found_by_any_name(hub: Hub, repos: Repos, folder: str) -> None:
    repos.adapter("org/a", folder=f"{folder}/")
    old = keep_revision(repos.place, "org/a")
    for text in (f"org/a/{folder}", f"org/a/{folder}@main", f"org/a/{folder}@{old}"):
        (row,) = describe(hub, name(text), BASE)
        assert row.subfolder == folder
    with pytest.raises(AdapterError) as caught:
        describe(hub, name(f"org/a/{folder}@other"), BASE)
    assert caught.value.reason is Reason.NOT_FOUND


def test_whole_models_in_folders_are_found(
    hub: Hub, repos: Repos, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (60, 500):
        model = {"config.json": b"{}", "model.safetensors": tensors()}
        repos.add("org/full", {f"checkpoint-{step}/{file}": text for file, text in model.items()})
    (row,) = describe(hub, name("org/full"), BASE)
    assert (row.kind, row.subfolder) == ("full", "checkpoint-500")
    assert row.weights_files == ["checkpoint-500/model.safetensors"]
    assert "taking checkpoint-500, the newest of 2 checkpoints" in caplog.text
    (row,) = describe(hub, name("org/full/checkpoint-60"), BASE)
    assert (row.kind, row.subfolder) == ("full", "checkpoint-60")


def test_a_merged_model_is_whole_whatever_its_card_says(hub: Hub, repos: Repos) -> None:
    left_over = {"adapter_config.json": b"{}", "config.json": b"{}", "model.safetensors": tensors()}
    repos.add("org/merged", left_over, card={"library_name": "peft", "base_model": BASE})
    (row,) = describe(hub, name("org/merged"), BASE)
    assert (row.kind, row.weights_files) == ("full", ["model.safetensors"])


def test_formats_that_cannot_be_read_are_taken_down(hub: Hub, repos: Repos) -> None:
    repos.add("org/gguf", {"m.Q4_K_M.gguf": b"GGUF", "m.Q8_0.gguf": b"GGUF"}, card={})
    (row,) = describe(hub, name("org/gguf"), BASE)
    assert row.weights_files == ["m.Q4_K_M.gguf", "m.Q8_0.gguf"]
    repos.add("org/npz", {"adapter_config.json": b"{}", "adapters.npz": b"PK"}, card={})
    (row,) = describe(hub, name("org/npz"), BASE)
    assert (row.kind, row.weights_files) == ("adapter", ["adapters.npz"])


@pytest.mark.parametrize("declared", [None, "", "/home/me/model", "gone/base-1b", BASE])
def test_a_persons_word_holds_where_the_config_does_not_contradict(
    hub: Hub, repos: Repos, declared: str | None
) -> None:
    repos.adapter("org/a", tag="other/base", declared=declared)
    (row,) = describe(hub, name("org/a"), BASE)
    assert row.canonical_base == BASE


def test_a_config_that_names_another_base_contradicts(hub: Hub, repos: Repos) -> None:
    repos.model("other/base")
    repos.adapter("org/a", declared="other/base")
    (row,) = describe(hub, name("org/a"), BASE)
    assert (row.canonical_base, row.evidence) == ("other/base", "named")


def test_a_mirror_in_the_config_is_the_base(hub: Hub, repos: Repos) -> None:
    repos.model("q/base-1b-4bit", of=BASE, relation="quantized")
    repos.adapter("org/a", declared="q/base-1b-4bit")
    (row,) = describe(hub, name("org/a"), BASE)
    assert (row.canonical_base, row.via) == (BASE, "q/base-1b-4bit")


def test_nothing_contradicts_a_base_in_a_local_folder(hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    (row,) = describe(hub, name("org/a"), "/models/base")
    assert row.base == row.canonical_base == "/models/base"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("org/none", Reason.NOT_FOUND),
        ("org/..", Reason.NOT_FOUND),
        ("org/private", Reason.NOT_FOUND),
        ("org/a@no-such-branch", Reason.NOT_FOUND),
        ("org/off", Reason.DISABLED),
        ("org/slow", Reason.NETWORK),
    ],
)
def test_what_cannot_be_seen_has_a_reason(
    text: str, reason: Reason, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a")
    repos.adapter("org/private", private=True)
    repos.adapter("org/off", disabled=True)
    served.faults.add(Fault("/api/models/org/slow", status=503, times=None))
    with pytest.raises(AdapterError) as caught:
        describe(hub, name(text), BASE)
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", ["no-such-branch", "1" * 40])
def test_a_revision_that_is_none_is_named(revision: str, hub: Hub, repos: Repos) -> None:
    repos.adapter("org/a")
    says = f"^org/a has no revision {revision}: name a branch, a tag or a full commit"
    with pytest.raises(AdapterError, match=says):
        describe(hub, name(f"org/a@{revision}"), BASE)


def test_a_refused_token_is_not_an_adapters_failure(
    hub: Hub, repos: Repos, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos.adapter("org/a")
    (repos.place / ".hub.yaml").write_text(yaml.safe_dump({"tokens": {"hf_right": "*"}}))
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="refuses the token"):
        describe(hub, name("org/a"), BASE)
