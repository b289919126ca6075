"""Vocabularies as real bases and adapters have them: larger than the probes, padded, resized."""

import json

import numpy as np
import peft
import pytest
import torch
from families import make_adapter, make_base
from made_by_peft import read_adapter
from safetensors.torch import load_file, save_file

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import AdapterError, Reason

EMBEDDING = "base_model.model.model.embed_tokens"
FIRST_QUERY = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def wide_base(tmp_path):
    """A vocabulary far larger than what the probes use, padded with one of its last tokens."""
    return make_base(tmp_path / "base", vocab_size=500, pad_token_id=450)


def answered(engine, folder):
    ((_, answer),) = engine.answers([read_adapter(folder)])
    return answer


def change_tensors(folder, change):
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
        peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
        peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[1, 2, 499]),
    ],
    ids=["lora", "saved", "tokens"],
)
def test_a_large_vocabulary_with_a_high_padding_token(config, wide_base, tmp_path):
    base = BaseModel.load(wide_base, ALPACA_5)
    folder = make_adapter(tmp_path / "adapter", wide_base, config=config)

    stacked = answered(StackedEngine(base), folder)

    reference = answered(ReferenceEngine(base), folder)
    np.testing.assert_allclose(stacked.activations, reference.activations, rtol=1e-4, atol=1e-5)
    assert stacked.signal > 1000


def test_a_resized_vocabulary_is_read_for_the_tokens_of_the_probes(wide_base, tmp_path):
    """PEFT then saves the replaced table under three names, with more rows than the base has."""
    folder = make_adapter(
        tmp_path / "adapter", wide_base, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    )
    base = BaseModel.load(wide_base, ALPACA_5)
    expected = answered(ReferenceEngine(base), folder)

    def resize(tensors):
        table = tensors[f"{EMBEDDING}.weight"]
        more = torch.cat([table, torch.randn(8, table.shape[1])])
        tensors[f"{EMBEDDING}.weight"] = more
        tensors[f"{EMBEDDING}.modules_to_save.weight"] = more.clone()
        tensors[f"{EMBEDDING}.original_module.weight"] = torch.randn_like(more)

    change_tensors(folder, resize)
    engine = StackedEngine(base)
    assert engine.can_embed(read_adapter(folder))

    given = answered(engine, folder)

    np.testing.assert_allclose(given.activations, expected.activations, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", [StackedEngine, ReferenceEngine])
def test_a_weight_beside_its_lora_is_not_taken_for_a_replacement(engine, wide_base, tmp_path):
    """PEFT does not load it, so what it is for cannot be told."""
    folder = make_adapter(tmp_path / "adapter", wide_base, target_modules=["q_proj"])
    change_tensors(folder, lambda t: t.update({f"{FIRST_QUERY}.weight": torch.randn(32, 32)}))

    error = answered(engine(BaseModel.load(wide_base, ALPACA_5)), folder)

    assert isinstance(error, AdapterError)
    assert error.reason is Reason.BASE_MISMATCH
    assert FIRST_QUERY in str(error)


def test_ia3_vectors_of_the_other_direction_are_refused(wide_base, tmp_path):
    folder = make_adapter(
        tmp_path / "adapter",
        wide_base,
        config=peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[]),
    )
    name = f"{FIRST_QUERY}.ia3_l"
    change_tensors(folder, lambda t: t.update({name: t[name].T.contiguous()}))

    error = answered(StackedEngine(BaseModel.load(wide_base, ALPACA_5)), folder)

    assert isinstance(error, AdapterError)
    assert name in str(error)


def test_rows_of_tokens_that_do_not_exist_are_refused(wide_base, tmp_path):
    folder = make_adapter(
        tmp_path / "adapter", wide_base, target_modules=["q_proj"], trainable_token_indices=[1, 2]
    )
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"trainable_token_indices": [-1, 2]}))

    error = answered(StackedEngine(BaseModel.load(wide_base, ALPACA_5)), folder)

    assert isinstance(error, AdapterError)
    assert "embed_tokens" in str(error)
