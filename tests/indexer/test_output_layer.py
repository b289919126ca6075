"""What an adapter holds for the output layer, as lm_head: no hidden state needs it, so it stays."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faults import Fault, FaultyHub
from hubs import BASE, add_adapter, add_base
from safetensors.torch import load_file, save_file

from hubdelta.crawler import downloads
from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub
from hubdelta.indexer.adapters.adapter import Adapter, PeftAdapter
from hubdelta.indexer.adapters.loading import Inspected, Obtainer
from hubdelta.indexer.adapters.local import describe_folder
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

HEAD = "base_model.model.lm_head."
WEIGHTS = "adapter_model.safetensors"
KINDS = {
    "a/saved": {"modules_to_save": ["lm_head"]},
    "a/low-rank": {
        "target_modules": ["q_proj", "lm_head"],
        "rank_pattern": {"lm_head": 16},
        "use_dora": True,
    },
    "a/head-only": {"target_modules": ["lm_head"]},
    "a/embedding": {"modules_to_save": ["lm_head", "embed_tokens"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    hub = tmp_path_factory.mktemp("hub")
    add_base(hub, tiny_base)
    for name, options in KINDS.items():
        add_adapter(hub, tiny_base, name, **options)
    return hub


@pytest.fixture
def obtainer(hub: Hub, base: BaseModel, tmp_path: Path) -> Obtainer:
    return Obtainer(hub, base, tmp_path / "downloads", max_bytes=10**9)


def pending(hub: Hub, name: str) -> Pending:
    return Pending(describe(hub, AdapterName(name), BASE)[0], 1)


def obtain(obtainer: Obtainer, inspected: Inspected) -> Adapter:
    obtainer.fetch(inspected)
    return obtainer.read(inspected)


@pytest.fixture(autouse=True)
def headers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """These weights are so small that they would come with the first bytes of their files."""
    monkeypatch.setattr(downloads, "_FIRST_READ", 100)


def needed(weights: Path) -> dict[str, torch.Tensor]:
    """Every tensor that an adapter's file holds but for the output layer's."""
    stored = load_file(weights)
    below = {name: tensor for name, tensor in stored.items() if not name.startswith(HEAD)}
    assert len(below) < len(stored)
    return below


def assert_same(adapter: object, tensors: dict[str, torch.Tensor]) -> None:
    assert isinstance(adapter, PeftAdapter)
    assert set(adapter.tensors) == set(tensors)
    assert all(torch.equal(adapter.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_neither_counted_nor_sent(
    name: str, obtainer: Obtainer, folder: Path, local_hub: FaultyHub
) -> None:
    tensors = needed(folder / name / WEIGHTS)
    size = sum(tensor.nbytes for tensor in tensors.values())
    inspected = obtainer.inspect(pending(obtainer.hub, name))
    assert inspected.memory_bytes == size
    assert inspected.weights.size == (folder / name / WEIGHTS).stat().st_size
    local_hub.requests.clear()
    assert_same(obtain(obtainer, inspected), tensors)
    sent = sum(record.bytes for record in local_hub.requests if "resolve-cache" in record.path)
    assert size <= sent <= 1.05 * size
    assert not list(obtainer.folder.iterdir()), "nothing stays on disk"


def test_without_one_the_whole_file_is_fetched_and_its_hash_checked(
    obtainer: Obtainer, folder: Path, tiny_base: Path, local_hub: FaultyHub
) -> None:
    add_adapter(folder, tiny_base, "a/plain")
    inspected = obtainer.inspect(pending(obtainer.hub, "a/plain"))
    local_hub.requests.clear()
    assert_same(obtain(obtainer, inspected), load_file(folder / "a/plain" / WEIGHTS))
    sent = sum(record.bytes for record in local_hub.requests if "resolve-cache" in record.path)
    assert inspected.weights.headers is not None
    (header,) = inspected.weights.headers.values()
    assert sent == inspected.weights.size - header.header_bytes


def test_a_download_to_be_kept_is_the_whole_file(
    obtainer: Obtainer, folder: Path, local_hub: FaultyHub
) -> None:
    keeping = replace(obtainer, keep=True)
    adapter = obtain(keeping, keeping.inspect(pending(obtainer.hub, "a/saved")))
    assert_same(adapter, needed(folder / "a/saved" / WEIGHTS))
    (kept,) = keeping.folder.glob(f"*/{WEIGHTS}")
    assert kept.read_bytes() == (folder / "a/saved" / WEIGHTS).read_bytes()


def test_it_counts_towards_no_limit_unless_it_is_kept(obtainer: Obtainer, folder: Path) -> None:
    size = sum(tensor.nbytes for tensor in needed(folder / "a/saved" / WEIGHTS).values())
    tight = replace(obtainer, max_bytes=size)
    tight.inspect(pending(obtainer.hub, "a/saved"))
    for refusing in (replace(tight, max_bytes=size - 1), replace(tight, keep=True)):
        with pytest.raises(AdapterError) as caught:
            refusing.inspect(pending(obtainer.hub, "a/saved"))
        assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_it_is_dropped_from_a_folder_of_this_machine(
    name: str, suffix: str, obtainer: Obtainer, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "adapter"
    place.mkdir()
    (place / "adapter_config.json").write_bytes(
        (folder / name / "adapter_config.json").read_bytes()
    )
    save = save_file if suffix == ".safetensors" else torch.save
    save(load_file(folder / name / WEIGHTS), place / f"adapter_model{suffix}")
    row = describe_folder(AdapterName(str(place)), BASE, run_id="r")
    adapter = obtain(obtainer, obtainer.inspect(Pending(row, 1)))
    assert_same(adapter, needed(folder / name / WEIGHTS))


def test_it_is_dropped_from_a_pickle(obtainer: Obtainer, folder: Path, tiny_base: Path) -> None:
    place = add_adapter(folder, tiny_base, "a/pickle", modules_to_save=["lm_head"])
    stored = load_file(place / WEIGHTS)
    tensors = needed(place / WEIGHTS)
    torch.save(stored, place / "adapter_model.bin")
    (place / WEIGHTS).unlink()
    adapter = obtain(obtainer, obtainer.inspect(pending(obtainer.hub, "a/pickle")))
    assert_same(adapter, tensors)


def test_one_of_another_vocabulary_is_no_reason_to_refuse(
    obtainer: Obtainer, local_hub: FaultyHub
) -> None:
    other = replace(obtainer.base, shapes={**obtainer.base.shapes, "lm_head": (7, 7)})
    replace(obtainer, base=other).inspect(pending(obtainer.hub, "a/low-rank"))


def test_an_answer_cut_short_is_network_and_leaves_nothing(
    obtainer: Obtainer, local_hub: FaultyHub
) -> None:
    waiting = pending(obtainer.hub, "a/saved")
    inspected = obtainer.inspect(waiting)
    local_hub.faults.add(Fault("/api/resolve-cache/*", times=None, cut_after=0))
    with pytest.raises(AdapterError) as caught:
        obtain(obtainer, inspected)
    assert caught.value.reason is Reason.NETWORK
    obtainer.release(waiting)
    assert not list(obtainer.folder.iterdir())
