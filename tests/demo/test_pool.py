"""The committed adapters are small, loadable, and what their pages say."""

import json
from datetime import datetime

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file

from hubdelta.demo.awkward_files import COMMITTED, CONFIG, WEIGHTS
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.cards import card
from hubdelta.demo.pool import MIXED, POOL, SINGLE, Card, PooledAdapter
from hubdelta.demo.sources import DOMAINS, SPLITS

OUT_FEATURES = {"q_proj": 576, "k_proj": 192, "v_proj": 192, "o_proj": 576}
LAYERS = 30
HIDDEN = 576

each = pytest.mark.parametrize("adapter", POOL, ids=lambda adapter: adapter.repo_id)


def test_every_domain_has_an_adapter_for_each_split() -> None:
    assert sorted(a.data[0] for a in SINGLE) == sorted(
        (d, n) for d in DOMAINS for n in range(SPLITS)
    )
    trained = {a.data[0] for a in SINGLE}
    assert all(set(a.data) <= trained and len(set(a.domains)) == 2 for a in MIXED)


def test_committed_files_are_the_pool_and_at_most_20_megabytes() -> None:
    files = {p.relative_to(COMMITTED).as_posix() for p in COMMITTED.rglob("*") if p.is_file()}
    names = ("README.md", ".hub.yaml", CONFIG, WEIGHTS)
    assert files == {f"{adapter.repo_id}/{name}" for adapter in POOL for name in names}
    assert sum((COMMITTED / file).stat().st_size for file in files) <= 20_000_000


@each
def test_weights_are_finite_bf16_factors_that_fit_the_base(adapter: PooledAdapter) -> None:
    tensors = load_file(COMMITTED / adapter.repo_id / WEIGHTS)
    assert len(tensors) == 2 * LAYERS * len(adapter.target_modules)
    for name, tensor in tensors.items():
        module = name.split(".")[-3]
        wanted = {
            "lora_A": (adapter.rank, HIDDEN),
            "lora_B": (OUT_FEATURES[module], adapter.rank),
        }[name.split(".")[-2]]
        assert (tensor.dtype, tuple(tensor.shape)) == (torch.bfloat16, wanted)
        assert torch.isfinite(tensor).all()


@each
def test_config_says_how_the_adapter_was_made(adapter: PooledAdapter) -> None:
    config = json.loads((COMMITTED / adapter.repo_id / CONFIG).read_text())
    assert config["base_model_name_or_path"] == BASE_ID
    assert (
        config["target_modules"] == list(adapter.target_modules) == sorted(config["target_modules"])
    )
    assert (config["r"], config["lora_alpha"]) == (adapter.rank, adapter.alpha)
    assert (config["peft_type"], config["use_rslora"]) == ("LORA", adapter.rslora)


@each
def test_card_is_the_one_the_pool_describes(adapter: PooledAdapter) -> None:
    path = COMMITTED / adapter.repo_id / "README.md"
    assert path.read_text(encoding="utf-8") == card(adapter)
    data = ModelCard.load(path).data.to_dict()
    assert (data["base_model"], data["library_name"]) == (BASE_ID, "peft")
    declared = [DOMAINS[name].dataset for name in adapter.domains]
    assert data.get("datasets") == (declared if adapter.datasets else None)
    assert adapter.datasets is not (adapter.card is Card.TEMPLATE)


def test_hub_settings_give_every_adapter_its_own_dates_of_2026() -> None:
    dates: list[datetime] = []
    for adapter in POOL:
        settings = yaml.safe_load((COMMITTED / adapter.repo_id / ".hub.yaml").read_text())
        assert settings["createdAt"] < settings["lastModified"]
        assert (settings["downloads"], settings["likes"]) == (adapter.downloads, adapter.likes)
        dates += [settings["createdAt"], settings["lastModified"]]
    assert len(set(dates)) == 2 * len(POOL)
    assert {date.year for date in dates} == {2026}


def test_weight_files_name_no_machine() -> None:
    for adapter in POOL:
        with safe_open(COMMITTED / adapter.repo_id / WEIGHTS, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
