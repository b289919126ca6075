"""Which files an adapter or a finetune is read from, on a Hub and in a folder alike."""

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from families import make_base
from faults import FaultyHub
from hubs import BASE, add_adapter, add_base
from safetensors.torch import load_file, save_file

from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.crawler.safetensors_header import Tensor, header_of
from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune, PeftAdapter
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

Tensors = dict[str, torch.Tensor]
ADAPTER, MODEL = "adapter_model", "model"


@pytest.fixture
def folder(tmp_path: Path, tiny_base: Path) -> Path:
    (tmp_path / "hub").mkdir()
    add_base(tmp_path / "hub", tiny_base)
    return tmp_path / "hub"


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    with FaultyHub(folder) as served, Hub(HubSettings(endpoint=served.url, attempts=1)) as hub:
        yield hub


@pytest.fixture
def obtainer(hub: Hub, base: BaseModel, tmp_path: Path) -> Obtainer:
    return Obtainer(hub, base, tmp_path / "downloads", max_bytes=10**9)


@pytest.fixture(params=["Hub", "folder"])
def obtain(request: pytest.FixtureRequest, obtainer: Obtainer, folder: Path, hub: Hub):
    """What an adapter of the served folder holds, as it comes from there or from disk."""

    def obtained(name: str) -> Adapter:
        if request.param == "Hub":
            (row,) = describe(hub, AdapterName.parse(name), BASE)
        else:
            row = describe_folder(AdapterName((folder / name).as_posix()), BASE, run_id="r")
        inspected = obtainer.inspect(Pending(row, 1))
        obtainer.fetch(inspected)
        return obtainer.read(inspected)

    return obtained


def tensors_of(adapter: Adapter) -> Tensors:
    if isinstance(adapter, PeftAdapter):
        return adapter.tensors
    return adapter.checkpoint.read(list(adapter.checkpoint.tensors))


def refused(obtain: Callable[[str], Adapter], name: str) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        tensors_of(obtain(name))
    return caught.value


def split(
    place: Path, tensors: Tensors, count: int, *, form: str, name: str = "{stem}-{n}-of-{count}"
) -> dict[str, str]:
    """Write shards; returns which file holds each tensor. `form` is a stem and a suffix."""
    stem, suffix = form.split(".")
    found = {}
    for number in range(count):
        file = name.format(stem=stem, n=f"{number + 1:05}", count=f"{count:05}") + "." + suffix
        part = {key: tensors[key] for key in sorted(tensors)[number::count]}
        if suffix == "bin":
            torch.save(part, place / file)
        else:
            save_file(part, place / file, {"format": "pt"})
        found |= dict.fromkeys(part, file)
    return found


def write_index(place: Path, form: str, weight_map: dict[str, str]) -> None:
    text = json.dumps({"metadata": {}, "weight_map": weight_map})
    (place / f"{form}.index.json").write_text(text)


def make(folder: Path, tiny_base: Path, form: str, name: str = "org/a") -> tuple[Path, Tensors]:
    """An adapter or a whole model whose weights are taken out of it."""
    if form.startswith(ADAPTER):
        place = add_adapter(folder, tiny_base, name)
        whole = place / "adapter_model.safetensors"
    else:
        place = folder / name
        make_base(place, seed=7)
        whole = place / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    return place, tensors


FORMS = ["adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin"]
NAMES = ["{stem}-{n}-of-{count}", "ft-{stem}-{n}-of-{count}", "{stem}.safetensors-{n}-of-{count}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*NAMES, "{stem}.fp16-{n}-of-{count}", "part{n}"])
def test_the_shards_that_the_index_names_are_read(
    name: str, form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, form)
    split(place, {key: tensor + 1 for key, tensor in tensors.items()}, 3, form=form)  # older ones
    write_index(place, form, split(place, tensors, 2, form=form, name=name))
    found = tensors_of(obtain("org/a"))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("form", FORMS)
def test_one_file_goes_before_an_index(
    form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, form)
    old = {key: tensor + 1 for key, tensor in tensors.items()}
    write_index(place, form, split(place, old, 2, form=form))
    torch.save(tensors, place / form) if form.endswith("bin") else save_file(tensors, place / form)
    found = tensors_of(obtain("org/a"))
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("form", ["adapter_model.safetensors", "model.safetensors"])
def test_shards_without_an_index_are_read_if_they_are_whole(
    form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, form)
    files = split(place, tensors, 3, form=form)
    assert tensors_of(obtain("org/a")).keys() == tensors.keys()
    (place / sorted(set(files.values()))[1]).unlink()
    error = refused(obtain, "org/a")
    assert error.reason is Reason.NO_WEIGHTS
    assert "number 2 is absent" in str(error)


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_that_is_missing_is_named(
    form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, form)
    files = split(place, tensors, 3, form=form)
    write_index(place, form, files)
    missing = sorted(set(files.values()))[1]
    (place / missing).unlink()
    error = refused(obtain, "org/a")
    assert error.reason is Reason.NO_WEIGHTS
    assert missing in str(error)
    assert f"{form}.index.json" in str(error)


@pytest.mark.parametrize("form", FORMS)
def test_files_that_disagree_are_named(
    form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, form)
    stem, suffix = form.split(".")
    files = [f"{stem}-0000{n}-of-00002.{suffix}" for n in (1, 2)]
    for file in files:
        if suffix == "bin":
            torch.save(tensors, place / file)
        else:
            save_file(tensors, place / file)
    error = refused(obtain, "org/a")
    assert error.reason is Reason.CORRUPT
    assert all(file in str(error) for file in files)

    # What is in the last file is what transformers reads, and here the index says so too.
    write_index(place, form, dict.fromkeys(tensors, files[1]) | {"none": files[0]})
    assert tensors_of(obtain("org/a")).keys() == tensors.keys()
    write_index(place, form, dict.fromkeys(tensors, files[0]) | {"none": files[1]})
    assert refused(obtain, "org/a").reason is Reason.CORRUPT


@pytest.mark.parametrize(
    "text",
    [
        '{"weight_map": {"a": "../model.safetensors"}}',
        '{"weight_map": {"a": "/etc/model.safetensors"}}',
        '{"weight_map": {"a": "config.json"}}',
        '{"weight_map": {"a": "pytorch_model.bin"}}',
        '{"weight_map": {"a": ["model.safetensors"]}}',
        '{"weight_map": ["model.safetensors"]}',
        '{"weight_map": {}}',
        '{"metadata": {}}',
        "[" * 100_000,
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n",
        "<html></html>",
        "",
        json.dumps({"weight_map": {str(n): f"{n}.safetensors" for n in range(5000)}}),
    ],
)
@pytest.mark.parametrize("form", ["adapter_model.safetensors", "model.safetensors"])
def test_an_index_that_names_no_files_of_the_folder_is_corrupt(
    text: str, form: str, folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, _ = make(folder, tiny_base, form)
    (place / f"{form}.index.json").write_text(text)
    error = refused(obtain, "org/a")
    assert error.reason is Reason.CORRUPT
    assert f"{form}.index.json" in str(error)


def test_a_merged_model_is_read_whole_beside_what_its_adapter_left(
    folder: Path, tiny_base: Path, obtain: Callable[[str], Adapter]
) -> None:
    place, tensors = make(folder, tiny_base, "model.safetensors")
    save_file(tensors, place / "model.safetensors")
    other = add_adapter(folder, tiny_base, "org/lora")
    shutil.copy(other / "adapter_config.json", place)
    assert isinstance(obtain("org/a"), FullFinetune)
    shutil.copy(other / "adapter_model.safetensors", place)
    assert isinstance(obtain("org/a"), PeftAdapter)


def test_a_catalog_of_an_earlier_version_leads_to_the_index(
    folder: Path, tiny_base: Path, obtainer: Obtainer, hub: Hub
) -> None:
    """It lists shards, of which some may be old ones, and never the index."""
    form = "adapter_model.safetensors"
    place, tensors = make(folder, tiny_base, form)
    old = split(place, {key: tensor + 1 for key, tensor in tensors.items()}, 3, form=form)
    new = split(place, tensors, 2, form=form)
    write_index(place, form, new)
    (row,) = describe(hub, AdapterName("org/a"), BASE)
    row.weights_files[:] = sorted({*old.values(), *new.values()})
    inspected = obtainer.inspect(Pending(row, 1))
    obtainer.fetch(inspected)
    found = tensors_of(obtainer.read(inspected))
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_other_formats_are_named(folder: Path, obtain: Callable[[str], Adapter]) -> None:
    place = folder / "org/a"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    for name in ("m.Q4_K_M.gguf", "m.Q8_0.gguf"):
        (place / name).write_bytes(b"GGUF")
    error = refused(obtain, "org/a")
    assert error.reason is Reason.NO_WEIGHTS
    assert "only GGUF files (m.Q4_K_M.gguf and 1 more)" in str(error)


@pytest.mark.parametrize("declared", ["other/model", "tiny/base", "/data/base", None])
def test_each_folder_belongs_to_the_base_that_its_own_config_names(
    declared: str | None, folder: Path, tiny_base: Path, obtainer: Obtainer, hub: Hub
) -> None:
    make_base(folder / "other/model", seed=9)
    add_adapter(folder, tiny_base, "org/a/mine")
    other = add_adapter(folder, tiny_base, "org/a/theirs") / "adapter_config.json"
    (folder / "org/a/README.md").write_text(f"---\nbase_model: [{BASE}, other/model]\n---\n")
    config = json.loads(other.read_text()) | {"base_model_name_or_path": declared}
    other.write_text(json.dumps(config))
    mine, theirs = describe(hub, AdapterName("org/a"), BASE)
    obtainer.inspect(Pending(mine, 1))
    if declared != "other/model":
        obtainer.inspect(Pending(theirs, 1))
        return
    with pytest.raises(AdapterError, match="index it under other/model") as caught:
        obtainer.inspect(Pending(theirs, 1))
    assert caught.value.reason is Reason.BASE_MISMATCH


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listen(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make_other", [pipe, listen, Path.mkdir, device, loop])
@pytest.mark.parametrize("form", ["adapter_model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("which", ["weights", "config", "index"])
def test_what_is_no_file_fails_without_waiting_for_it(
    which: str,
    form: str,
    make_other: Callable[[Path], None],
    tmp_path: Path,
    tiny_base: Path,
    obtainer: Obtainer,
) -> None:
    place, tensors = make(tmp_path, tiny_base, form)
    torch.save(tensors, place / form) if form.endswith("bin") else save_file(tensors, place / form)
    config = "adapter_config.json" if form.startswith(ADAPTER) else "config.json"
    name = {"weights": form, "config": config, "index": f"{form}.index.json"}[which]
    (place / form).unlink() if which != "config" else (place / config).unlink()
    make_other(place / name)
    done: list[AdapterError] = []

    def read() -> None:
        try:
            row = describe_folder(AdapterName(place.as_posix()), BASE, run_id="r")
            obtainer.inspect(Pending(row, 1))
        except AdapterError as error:
            done.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert done
    assert done[0].reason in {Reason.CORRUPT, Reason.NO_WEIGHTS}
    assert name in str(done[0])


def sparse(path: Path, file_bytes: int, data_bytes: int) -> None:
    """A file with a single tensor of zeros, none of which takes room on the disk."""
    tensor = Tensor("F32", (data_bytes // 128, 32), 0, data_bytes)
    start = header_of({"base_model.model.model.layers.0.q_proj.lora_A.weight": tensor}, {})
    path.write_bytes(start)
    os.truncate(path, len(start) + file_bytes)


@pytest.mark.parametrize(
    ("form", "data_bytes", "reason"),
    [
        ("adapter_model.safetensors", 1 << 40, Reason.TOO_LARGE),
        ("adapter_model.safetensors", 1 << 39, Reason.CORRUPT),
        ("adapter_model.bin", 1 << 40, Reason.TOO_LARGE),
        ("model.safetensors", 1 << 39, Reason.CORRUPT),
    ],
)
def test_a_terabyte_is_refused_before_it_is_read(
    form: str, data_bytes: int, reason: Reason, tmp_path: Path, tiny_base: Path
) -> None:
    place, _ = make(tmp_path, tiny_base, form)
    sparse(place / form, 1 << 40, data_bytes)
    with pytest.raises(AdapterError) as caught:
        describe_folder(AdapterName(place.as_posix()), BASE, run_id="r", max_bytes=10**9)
    assert caught.value.reason is reason


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("moment", ["inspected", "fetched", "read"])
def test_a_file_that_shrinks_at_any_moment_is_one_adapters_failure_at_most(
    moment: str, form: str, tmp_path: Path, tiny_base: Path, obtainer: Obtainer
) -> None:
    """A page of a mapped file that is no longer there ends the process (SIGBUS)."""
    place, tensors = make(tmp_path, tiny_base, form)
    torch.save(tensors, place / form) if form.endswith("bin") else save_file(tensors, place / form)
    row = describe_folder(AdapterName(place.as_posix()), BASE, run_id="r")

    def shrink(now: str) -> None:
        if now == moment:
            os.truncate(place / form, 100)

    def read() -> Tensors:
        inspected = obtainer.inspect(Pending(row, 1))
        shrink("inspected")
        obtainer.fetch(inspected)
        shrink("fetched")
        adapter = obtainer.read(inspected)
        shrink("read")
        return tensors_of(adapter)

    whole = moment != "inspected" and form.startswith(ADAPTER)  # it is copied when it is fetched
    if whole:
        found = read()
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
    else:
        with pytest.raises(AdapterError) as caught:
            read()
        assert caught.value.reason is Reason.CORRUPT
    assert not list(obtainer.folder.glob("*/*"))
