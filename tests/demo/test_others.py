"""The demo's encoder-decoder family and its full finetune are what their cards say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from straight_line import StraightLine
from transformers import AutoConfig, AutoModelForCausalLM

from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.others import MERGED, MERGED_FROM, OTHERS, T5_ADAPTERS, TINY_T5
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.hidden_states import hidden_states
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.keys import AdapterKey


@pytest.fixture(scope="module")
def t5(demo_hub: Path) -> BaseModel:
    return BaseModel.load(demo_hub / TINY_T5, ALPACA_5)


@pytest.fixture(scope="module")
def t5_adapters(demo_hub: Path) -> list[PeftAdapter]:
    folders = [demo_hub / repo.repo_id for repo in T5_ADAPTERS]
    return [
        PeftAdapter(
            AdapterKey(repo.repo_id, "", "0" * 40),
            AdapterConfig.read(folder / "adapter_config.json"),
            read_tensors([folder / "adapter_model.safetensors"]),
            weight_bytes=0,
        )
        for repo, folder in zip(T5_ADAPTERS, folders, strict=True)
    ]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_encoder_decoder_is_built_as_flan_t5_is(t5: BaseModel, demo_hub: Path) -> None:
    config = AutoConfig.from_pretrained(demo_hub / TINY_T5)
    assert (config.model_type, config.feed_forward_proj) == ("t5", "gated-gelu")
    assert config.is_encoder_decoder
    tensors = load_file(demo_hub / TINY_T5 / "model.safetensors")
    assert not torch.equal(tensors["lm_head.weight"], tensors["shared.weight"])
    assert sum(file.stat().st_size for file in (demo_hub / TINY_T5).iterdir()) < 4e6
    ends = {int(probe[0, -1]) for probe in t5.probes}
    assert ends == {config.eos_token_id}
    assert all(len(probe.unique()) > 20 for probe in t5.probes)


@pytest.mark.parametrize("make_engine", [ReferenceEngine, StackedEngine])
def test_two_of_its_adapters_resemble_each_other(
    make_engine: type[ReferenceEngine | StackedEngine],
    t5: BaseModel,
    t5_adapters: list[PeftAdapter],
) -> None:
    engine = make_engine(t5)
    assert all(engine.can_embed(adapter) for adapter in t5_adapters)
    answers = dict(engine.answers(t5_adapters))
    first, like_it, other = (answers[place].delta for place in range(3))
    assert cosine(first, like_it) > 0.9
    assert cosine(first, other) < 0.5
    assert all(answer.signal > 1e4 for answer in answers.values())


def test_the_finetune_is_the_base_with_the_adapter_in_its_weights(
    demo_base: Path, demo_hub: Path
) -> None:
    folder = demo_hub / MERGED
    shards = sorted(folder.glob("model-*.safetensors"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(shards) == 3
    assert {shard.name for shard in shards} == set(index["weight_map"].values())

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype is torch.bfloat16
    base = BaseModel.load(demo_base, ALPACA_5)
    states = hidden_states(model.float().eval(), base.probes)
    delta = (states - hidden_states(base.model, base.probes)).mean(axis=0)
    of_adapter = StraightLine(demo_base).delta(COMMITTED / MERGED_FROM)
    assert cosine(delta, of_adapter) > 0.999
    assert np.linalg.norm(delta) == pytest.approx(np.linalg.norm(of_adapter), rel=0.05)


def test_only_what_the_adapter_targets_differs_from_the_base(
    demo_base: Path, demo_hub: Path
) -> None:
    own = load_file(demo_base / "model.safetensors")
    found = {}
    for shard in (demo_hub / MERGED).glob("model-*.safetensors"):
        found |= load_file(shard)
    assert found.keys() == own.keys()
    differing = {name for name in own if not torch.equal(own[name], found[name])}
    targets = json.loads((COMMITTED / MERGED_FROM / "adapter_config.json").read_text())
    assert {name.split(".")[-2] for name in differing} == set(targets["target_modules"])


def test_cards_name_the_base_and_dates_differ(demo_hub: Path) -> None:
    days = set()
    for repo in OTHERS:
        data = ModelCard.load(demo_hub / repo.repo_id / "README.md").data
        bases = {TINY_T5: None, MERGED: BASE_ID}
        assert data.base_model == bases.get(repo.repo_id, TINY_T5)
        days.add(yaml.safe_load((demo_hub / repo.repo_id / ".hub.yaml").read_text())["createdAt"])
    assert len(days) == len(OTHERS)
