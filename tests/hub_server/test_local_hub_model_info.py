"""`model_info`, the file tree and paths-info, asked by the real client."""

import hashlib
import subprocess
from pathlib import Path

import pytest
from huggingface_hub.errors import (
    BadRequestError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder
from huggingface_hub.utils import get_session

from hubdelta.hub_server import keep_revision

BASE = "meta/base-1b"
ODD_NAMES = [
    "a b/ä ö.txt",
    "at@sign.json",
    "quo'te\".txt",
    "100%25.txt",
    "what?#frag.txt",
    "semi;colon&and=.txt",
    "<b>.html",
    "日本/模型.safetensors",
]


def test_model_info_has_the_keys_of_the_recorded_one(folder, hub, sample, make_safetensors):
    recorded = sample("model_info_default")
    folder.add(
        "deepset/roberta",
        {
            "config.json": '{"model_type": "roberta", "architectures": ["RobertaForMaskedLM"]}',
            "tokenizer_config.json": '{"mask_token": {"content": "<mask>"}}',
            "model.safetensors": make_safetensors({"w": [2]}),
        },
        card={"model-index": [{"name": "x", "results": []}], "widget": [{"text": "Hi"}]},
    )
    served = get_session().get(f"{hub.url}/api/models/deepset/roberta").json()
    # "inference" says that the Hub runs the model, which a folder never does.
    assert set(served) == set(recorded) - {"inference"}
    assert served["mask_token"] == "<mask>"
    assert served["config"]["tokenizer_config"] == {"mask_token": "<mask>"}
    assert set(served["transformersInfo"]) == set(recorded["transformersInfo"])


def test_expanded_info_has_the_keys_of_the_recorded_one(folder, hub, sample, make_safetensors):
    recorded = sample("model_info_expand")
    folder.add(BASE)
    folder.add(
        "ada/tuned",
        {
            "config.json": '{"model_type": "bert", "architectures": ["BertForMaskedLM"]}',
            "tokenizer_config.json": '{"mask_token": "[MASK]"}',
            "model.safetensors": make_safetensors({"w": [2]}),
        },
        card={"base_model": BASE, "model-index": [{"name": "x"}], "widget": [{"text": "Hi"}]},
    )
    asked = sorted(set(recorded) - {"_id", "id"})
    served = get_session().get(f"{hub.url}/api/models/ada/tuned", params={"expand": asked}).json()
    assert set(served) == set(recorded)
    assert set(served["childrenModelCount"]) == set(recorded["childrenModelCount"])
    assert set(served["baseModels"]) == {"relation", "models"}


def test_children_are_counted_by_relation(folder, api):
    folder.add("old/base", hub={"renamed_to": BASE})
    folder.add(BASE)
    folder.add_adapter("ada/law")
    folder.add_adapter("ada/old", base="old/base")
    folder.add_adapter("ada/secret", hub={"private": True})
    folder.add("cyn/tuned", card={"base_model": BASE})
    counted = api.model_info(BASE, expand=["childrenModelCount"]).children_model_count
    assert counted == {"adapter": 2, "finetune": 1, "quantized": 0, "merge": 0}


def test_files_metadata_gives_sizes_and_hashes(folder, api):
    folder.add("ada/law", {"config.json": "{}", "weights.bin": b"12345"})
    info = api.model_info("ada/law", files_metadata=True, securityStatus=True)
    small, large = info.siblings
    assert (small.rfilename, small.size, small.lfs) == ("config.json", 2, None)
    assert small.blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert large.lfs.sha256 == hashlib.sha256(b"12345").hexdigest()
    assert (large.lfs.size, large.size) == (5, 5)
    assert large.blob_id != large.lfs.sha256


def test_expand_excludes_the_other_parameters(folder, hub, api):
    folder.add("ada/law")
    params = {"expand": "sha", "blobs": "true"}
    answer = get_session().get(f"{hub.url}/api/models/ada/law", params=params)
    assert answer.status_code == 400
    with pytest.raises(BadRequestError, match="nonsense"):
        api.model_info("ada/law", expand=["nonsense"])


def test_the_commit_depends_on_content_alone(folder, api, touch):
    first = folder.add("ada/law", {"sub/a.txt": "1", "b.bin": b"2"}, hub={"likes": 1})
    folder.add("ada/copy", {"sub/a.txt": "1", "b.bin": b"2"})
    sha = api.model_info("ada/law").sha
    assert len(sha) == 40
    assert api.model_info("ada/copy").sha == sha
    (first / "sub/a.txt").write_text("changed")
    assert api.model_info("ada/law").sha != sha
    (first / "sub/a.txt").write_text("1")
    assert api.model_info("ada/law").sha == sha


def test_object_ids_are_gits_own(folder, api, tmp_path):
    files = {"b/c/d.txt": "deep", "b.txt": "beside", "b-c": "sorts between", "a": "first"}
    clone = tmp_path / "clone"
    for path, content in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(content)

    def git(*words):
        command = ["git", "-C", str(clone), "-c", "core.autocrlf=false", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    git("add", ".")
    listed = git("ls-tree", "-r", "-t", git("write-tree").strip())
    by_git = {line.split("\t")[1]: line.split()[2] for line in listed.splitlines()}
    folder.add("ada/law", files)
    tree = api.list_repo_tree("ada/law", recursive=True)
    ours = {item.path: getattr(item, "blob_id", None) or item.tree_id for item in tree}
    assert ours == by_git


def test_the_tree_lists_one_level_or_all(folder, api):
    folder.add("ada/law", {"z/x/1.txt": "", "z/2.txt": "", "a.txt": "", "weights.bin": b"12"})
    flat = list(api.list_repo_tree("ada/law"))
    assert [(type(item), item.path) for item in flat] == [
        (RepoFolder, "z"),
        (RepoFile, "a.txt"),
        (RepoFile, "weights.bin"),
    ]
    assert flat[2].lfs.sha256 == hashlib.sha256(b"12").hexdigest()
    assert [item.path for item in api.list_repo_tree("ada/law", "z")] == ["z/x", "z/2.txt"]
    assert api.list_repo_files("ada/law") == ["a.txt", "weights.bin", "z/2.txt", "z/x/1.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree("ada/law", "nowhere"))


def test_tree_entries_have_the_keys_of_the_recorded_ones(folder, hub, sample):
    folder.add("ada/law", {"coreml/x": "", ".gitattributes": "", "model.safetensors": b""})
    served = get_session().get(f"{hub.url}/api/models/ada/law/tree/main").json()
    recorded = sample("tree")
    for name in ("coreml", ".gitattributes", "model.safetensors"):
        (ours,) = [entry for entry in served if entry["path"] == name]
        (theirs,) = [entry for entry in recorded if entry["path"] == name]
        assert set(ours) == set(theirs) - {"xetHash"}
        assert ours.get("lfs", {}).keys() == theirs.get("lfs", {}).keys()


def test_a_long_tree_is_paged(folder, hub, api):
    folder.add("ada/law", {f"{number:03d} ü.txt": "" for number in range(120)})
    assert len(list(api.list_repo_tree("ada/law", expand=True))) == 120
    assert [record.status for record in hub.requests] == [200, 200, 200]
    answer = get_session().get(f"{hub.url}/api/models/ada/law/tree/main?limit=100")
    assert len(answer.json()) == 100
    assert answer.links["next"]["url"].startswith(f"{hub.url}/api/models/ada/law/tree/main?limit=")


def test_paths_info_answers_for_files_and_folders_that_exist(folder, hub, api, sample):
    folder.add("ada/law", {"sub/config.json": "{}", "weights.bin": b"1"})
    found = api.get_paths_info("ada/law", ["sub/config.json", "sub", "absent", "../x"])
    assert [(type(item), item.path) for item in found] == [
        (RepoFile, "sub/config.json"),
        (RepoFolder, "sub"),
    ]
    (expanded,) = api.get_paths_info("ada/law", "weights.bin", expand=True)
    assert expanded.last_commit.oid == api.model_info("ada/law").sha
    assert expanded.security.status == "unscanned"
    url = f"{hub.url}/api/models/ada/law/paths-info/main"
    form = {"paths": "sub/config.json", "expand": "true"}
    (raw,) = get_session().post(url, data=form).json()
    assert set(raw) == set(sample("paths_info_expand")[0])
    (same,) = get_session().post(url, json={"paths": ["sub/config.json"], "expand": True}).json()
    assert same == raw
    assert get_session().post(url, content=b'{"paths": 3}').status_code == 200
    broken = {"content-type": "application/json"}
    assert get_session().post(url, content=b"[[", headers=broken).status_code == 400


def test_odd_names_are_found_everywhere(folder, api, tmp_path):
    folder.add("ada/law", {name: name for name in ODD_NAMES})
    assert set(api.list_repo_files("ada/law")) == set(ODD_NAMES)
    assert {item.path for item in api.get_paths_info("ada/law", ODD_NAMES)} == set(ODD_NAMES)
    for name in ODD_NAMES:
        path = api.hf_hub_download("ada/law", name, cache_dir=tmp_path / "cache")
        assert Path(path).read_text() == name


def test_an_older_commit_is_served_beside_main(folder, api, tmp_path):
    place = folder.add_adapter("ada/law")
    (place / "note.txt").write_text("old")
    old = keep_revision(folder.place, "ada/law")
    assert keep_revision(folder.place, "ada/law") == old
    (place / "note.txt").write_text("new")
    new = api.model_info("ada/law").sha
    assert new != old
    for revision, content in [(old, "old"), (new, "new"), ("main", "new")]:
        path = api.hf_hub_download("ada/law", "note.txt", revision=revision, cache_dir=tmp_path)
        assert Path(path).read_text() == content
        assert api.model_info("ada/law", revision=revision).sha in (old, new)
    assert api.list_repo_files("ada/law") == api.list_repo_files("ada/law", revision=old)


@pytest.mark.parametrize("revision", ["f" * 40, "v1.0", "refs/pr/1", "0" * 39])
def test_an_unknown_revision_is_said_to_be_one(folder, api, tmp_path, revision):
    folder.add_adapter("ada/law")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("ada/law", revision=revision)
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree("ada/law", revision=revision))
    with pytest.raises(RevisionNotFoundError):
        api.get_paths_info("ada/law", "x", revision=revision)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("ada/law", "x.txt", revision=revision, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        api.snapshot_download("ada/law", revision=revision, cache_dir=tmp_path)


def test_a_given_commit_is_shown_instead_of_the_hash(folder, api):
    folder.add("ada/law", {"a": ""}, hub={"sha": "a" * 40})
    assert api.model_info("ada/law").sha == "a" * 40
    assert api.model_info("ada/law", revision="a" * 40).siblings[0].rfilename == "a"


def test_config_holds_what_cannot_be_json_as_null(folder, api):
    config = '{"base_model_name_or_path": "a\\ud800b", "task_type": NaN}'
    folder.add("ada/law", {"adapter_config.json": config}, card={"x": float("nan")})
    info = api.model_info("ada/law")
    assert info.config["peft"] == {"base_model_name_or_path": "a?b", "task_type": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    "card",
    [
        "---\n: [\n---\n",
        "---\n- a list\n---\n",
        "---\na: &a [x]\nb: [*a, *a]\n---\n",
        "---\na: !!python/object/apply:os.system [ls]\n---\n",
        "---\na: " + "[" * 5000 + "\n---\n",
        "no front matter",
        "---\n---\n",
        "\xff\xfe",
    ],
)
def test_a_card_that_cannot_be_read_is_no_card(folder, api, card):
    folder.add("ada/law", {"README.md": card.encode("latin-1"), "config.json": "[" * 100_000})
    info = api.model_info("ada/law")
    assert (info.card_data, info.config) == (None, None)
    assert [model.id for model in api.list_models(cardData=True)] == ["ada/law"]


def test_damaged_weights_have_no_parameter_counts(folder, api):
    folder.add("ada/law", {"model.safetensors": b"\xff" * 100})
    folder.add("ada/math", {"model.safetensors": b"\x02\0\0\0\0\0\0\0[]"})
    assert api.model_info("ada/law").safetensors is None
    assert api.model_info("ada/math").safetensors is None
