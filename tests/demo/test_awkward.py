"""The demo's Hub holds every awkward repository as its row says, the same each time."""

import hashlib
import json
import pickle
import pickletools
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from demo_hub import make_hub
from huggingface_hub import ModelCard
from safetensors import SafetensorError
from safetensors.torch import load_file

from hubdelta.demo.awkward import AWKWARD, MIRROR_ID, AwkwardRepo, build_hub
from hubdelta.demo.awkward_files import MARKER, WEIGHTS
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.others import OTHERS
from hubdelta.demo.pool import POOL
from hubdelta.schemas.errors import Reason

NAMES = [repo.repo_id for repo in AWKWARD]


def expecting(reason: Reason) -> list[str]:
    return [repo.repo_id for repo in AWKWARD if repo.expected is reason]


def contents(hub: Path) -> dict[str, str]:
    """Path → SHA-256 of every file, the base's aside (it is behind a link)."""
    return {
        path.relative_to(hub).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in hub.rglob("*")
        if path.is_file()
    }


def test_hub_holds_the_base_the_pool_and_every_other_row(demo_hub: Path) -> None:
    found = {path.relative_to(demo_hub).as_posix() for path in demo_hub.glob("*/*")}
    others = (other.repo_id for other in OTHERS)
    assert found == {BASE_ID, *NAMES, *others, *(adapter.repo_id for adapter in POOL)}
    assert len(set(NAMES)) == len(NAMES)


def test_building_again_changes_nothing(demo_hub: Path) -> None:
    def times() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in demo_hub.rglob("*")}

    before = times()
    build_hub(demo_hub)
    assert times() == before


def test_two_builds_hold_the_same_bytes(demo_hub: Path, demo_base: Path, tmp_path: Path) -> None:
    assert contents(make_hub(tmp_path, demo_base)) == contents(demo_hub)


def test_a_build_that_lost_a_repository_makes_it_again(demo_base: Path, tmp_path: Path) -> None:
    hub = make_hub(tmp_path, demo_base)
    whole = contents(hub)
    for path in sorted((hub / "polyrank").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    build_hub(hub)
    assert contents(hub) == whole


@pytest.mark.parametrize("repo", AWKWARD, ids=NAMES)
def test_adapters_lie_where_the_row_says(demo_hub: Path, repo: AwkwardRepo) -> None:
    folder = demo_hub / repo.repo_id
    configs = {path.parent.relative_to(folder) for path in folder.rglob("adapter_config.json")}
    assert configs == (set() if "renamed_to" in repo.settings else set(map(Path, repo.folders)))
    assert (folder / "README.md").exists() == (repo.card is not None)


def test_dates_differ_and_settings_are_those_of_the_row(demo_hub: Path) -> None:
    read = [yaml.safe_load((demo_hub / repo.repo_id / ".hub.yaml").read_text()) for repo in AWKWARD]
    assert len({settings["lastModified"] for settings in read}) == len(AWKWARD)
    for repo, settings in zip(AWKWARD, read, strict=True):
        assert {key: str(settings[key]).lower() for key in repo.settings} == dict(repo.settings)


def test_truncated_weights_do_not_open(demo_hub: Path) -> None:
    (name,) = expecting(Reason.CORRUPT)
    with pytest.raises(SafetensorError):
        load_file(demo_hub / name / WEIGHTS)


def test_nan_weights_hold_a_nan(demo_hub: Path) -> None:
    (name,) = expecting(Reason.NOT_FINITE)
    assert any(t.isnan().any() for t in load_file(demo_hub / name / WEIGHTS).values())


def test_misfits_fit_no_layer_of_the_base(demo_hub: Path) -> None:
    for name in expecting(Reason.BASE_MISMATCH):
        assert all(576 not in t.shape for t in load_file(demo_hub / name / WEIGHTS).values())


def test_untrained_adapter_changes_nothing(demo_hub: Path) -> None:
    tensors = load_file(demo_hub / "mlnights/lora-test-0" / WEIGHTS)
    assert all(not t.any() for name, t in tensors.items() if "lora_B" in name)
    assert all(t.any() for name, t in tensors.items() if "lora_A" in name)


def test_old_format_holds_the_same_tensors(demo_hub: Path) -> None:
    old = torch.load(demo_hub / "vintage-peft/kjv-2023-format/adapter_model.bin", weights_only=True)
    new = load_file(demo_hub / "old-books-club/smollm2-king-james" / WEIGHTS)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_hostile_pickle_would_call_mkdir_but_is_refused(
    demo_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = expecting(Reason.UNSAFE_FORMAT)
    file = demo_hub / name / "adapter_model.bin"
    with zipfile.ZipFile(file) as archive:
        program = archive.read("adapter_model/data.pkl")
    read = [argument for _, argument, _ in pickletools.genops(program)]
    assert any("mkdir" in str(argument) for argument in read)
    assert MARKER in read
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        torch.load(file, weights_only=True)
    assert not Path(MARKER).exists()


def test_card_with_markup_parses_to_the_markup(demo_hub: Path) -> None:
    folder = demo_hub / "tablebobby/robert-lora"
    data = ModelCard.load(folder / "README.md").data.to_dict()
    assert "<script>" in data["license_name"]
    assert any("DROP TABLE" in name for name in data["datasets"])
    assert any("DROP TABLE" in path.name for path in folder.iterdir())


def test_mirror_and_its_adapter_point_at_each_other(demo_hub: Path) -> None:
    data = ModelCard.load(demo_hub / MIRROR_ID / "README.md").data.to_dict()
    assert (data["base_model"], data["base_model_relation"]) == (BASE_ID, "quantized")
    config = (demo_hub / "quantcraft/docstring-coder-qlora/adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] == MIRROR_ID
