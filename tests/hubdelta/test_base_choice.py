"""What `--base` may name: a wrong one is told for what it is, and leaves nothing behind."""

import json
from collections.abc import Callable
from pathlib import Path

import optional
import pytest
import yaml
from faults import FaultyHub

from hubdelta.cli import run as hubdelta_run

Run = Callable[..., str]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    return folder


@pytest.fixture
def refused(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Run:
    """Runs a command that must fail, and gives what it says; nothing may be left behind."""
    index = tmp_path / "index"

    def run(*arguments: str) -> str:
        if arguments[0] == "index":  # it says first what it needs
            optional.skip_without("torch")
        with FaultyHub(hub) as served:
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
            monkeypatch.setenv("HF_ENDPOINT", served.url)
            assert hubdelta_run([*arguments, "--index", str(index)]) == 2
        said: str = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert not index.exists()
        return said

    return run


def repository(place: Path, files: dict[str, bytes], **card: object) -> Path:
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
    return place


def adapter_files(base: object) -> dict[str, bytes]:
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": base})
    return {"adapter_config.json": config.encode(), "adapter_model.safetensors": b""}


@pytest.mark.parametrize("command", ["index", "crawl"])
def test_an_adapter_names_its_base(command: str, hub: Path, refused: Run) -> None:
    repository(hub / "org/lora", adapter_files("meta/base"), library_name="peft")
    said = refused(command, "--base", "org/lora")
    assert "org/lora is an adapter of meta/base, not a base model; pass --base meta/base" in said


def test_an_adapter_of_a_path_says_what_to_pass(hub: Path, refused: Run) -> None:
    repository(hub / "org/lora", adapter_files("/home/me/base"))
    said = refused("index", "--base", "org/lora", "org/lora")
    assert "org/lora is an adapter, not a base model: name the model it was trained on" in said


def test_gguf_files_alone_are_no_base(hub: Path, refused: Run) -> None:
    repository(hub / "q/base-GGUF", {"base.Q4_K_M.gguf": b"GGUF"}, base_model="meta/base")
    said = refused("index", "--base", "q/base-GGUF")
    assert "q/base-GGUF holds GGUF files only" in said
    assert "--base meta/base" in said


def test_a_repository_of_other_files_is_no_base(hub: Path, refused: Run) -> None:
    repository(hub / "org/data", {"train.parquet": b"PAR1"})
    assert "org/data holds no config.json" in refused("index", "--base", "org/data")


def test_an_adapter_in_a_folder_is_no_base(tmp_path: Path, refused: Run) -> None:
    folder = str(repository(tmp_path / "lora", adapter_files("meta/base")))
    said = refused("index", "--base", folder, folder)
    assert f"{folder} is an adapter of meta/base, not a base model; pass --base meta/base" in said


def test_a_folder_without_a_model_is_no_base(tmp_path: Path, refused: Run) -> None:
    folder = str(repository(tmp_path / "notes", {"notes.txt": b"x"}))
    assert f"{folder} holds no config.json" in refused("index", "--base", folder, folder)


def test_a_merged_model_beside_its_adapters_config_can_be_the_base(hub: Path) -> None:
    from hubdelta.crawler.base import find_base
    from hubdelta.crawler.hub import Hub, HubSettings

    files = adapter_files("meta/base") | {"config.json": b"{}", "model.safetensors": b""}
    repository(hub / "org/merged", files)
    with FaultyHub(hub) as served, Hub(HubSettings(endpoint=served.url)) as asked:
        assert find_base(asked, "org/merged").repo_id == "org/merged"
