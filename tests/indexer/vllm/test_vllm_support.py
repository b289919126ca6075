"""Which adapters are handed to vLLM: none whose settings or tensors it would pass over in silence.

Needs no vLLM: what PEFT saves is held against the tables.
"""

import json
from pathlib import Path

import peft
import pytest
import torch
from families import family, make_adapter, save_adapter
from transformers import AutoModelForCausalLM

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.peft_config import tensors_that_count
from hubdelta.indexer.engines.base_model import BaseModel, tokenized
from hubdelta.indexer.engines.vllm.engine import VllmEngine
from hubdelta.indexer.engines.vllm.support import (
    MAX_RANKS,
    are_plain_factors,
    is_plain_lora,
    smallest_room,
)
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import MissingExtraError, UsageError

LINEAR = list(family("llama").linear)
Q = ["q_proj"]

TAKEN = {
    "lora": peft.LoraConfig(target_modules=Q),
    "every linear layer": peft.LoraConfig(target_modules="all-linear"),
    "rslora": peft.LoraConfig(target_modules=Q, use_rslora=True),
    "patterns": peft.LoraConfig(
        target_modules=LINEAR, rank_pattern={"q_proj": 3}, alpha_pattern={"v_proj": 9}
    ),
    "some layers": peft.LoraConfig(target_modules=Q, layers_to_transform=[1]),
    "gaussian start": peft.LoraConfig(target_modules=Q, init_lora_weights="gaussian"),
    "output layer": peft.LoraConfig(target_modules=[*Q, "lm_head"]),
    "output layer saved": peft.LoraConfig(target_modules=Q, modules_to_save=["lm_head"]),
}

LEFT_TO_OTHERS = {
    "dora": peft.LoraConfig(target_modules=Q, use_dora=True),
    "trained biases": peft.LoraConfig(target_modules=Q, bias="all"),
    "biases of adapted layers": peft.LoraConfig(target_modules=Q, bias="lora_only"),
    "lora bias": peft.LoraConfig(target_modules=Q, lora_bias=True),
    "embedding saved": peft.LoraConfig(target_modules=Q, modules_to_save=["embed_tokens"]),
    "norms saved": peft.LoraConfig(target_modules=Q, modules_to_save=["norm"]),
    "layer saved": peft.LoraConfig(target_modules=Q, modules_to_save=["down_proj"]),
    "embedding": peft.LoraConfig(target_modules=[*Q, "embed_tokens"]),
    "trainable tokens": peft.LoraConfig(target_modules=Q, trainable_token_indices=[1, 2]),
    "pissa": peft.LoraConfig(target_modules=Q, init_lora_weights="pissa"),
    "olora": peft.LoraConfig(target_modules=Q, init_lora_weights="olora"),
    "activated lora": peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=Q, alora_invocation_tokens=[1]
    ),
    "layers repeated": peft.LoraConfig(target_modules=Q, layer_replication=[[0, 2], [1, 2]]),
    "a rank that has no room": peft.LoraConfig(target_modules=Q, r=17),
    "one rank that has no room": peft.LoraConfig(target_modules=LINEAR, rank_pattern={Q[0]: 17}),
    "ia3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
    "loha": peft.LoHaConfig(target_modules=Q),
    "lokr": peft.LoKrConfig(target_modules=Q),
    "oft": peft.OFTConfig(target_modules=Q, r=4, oft_block_size=0),
    "vera": peft.VeraConfig(target_modules=Q),
    "adalora": peft.AdaLoraConfig(target_modules=Q, total_step=10),
    "layer norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}


@pytest.fixture
def is_taken(base, read_adapter):
    """Whether an adapter in a folder is handed to vLLM, if that wraps every linear layer."""
    modules = frozenset(n for n in base.shapes if n.rpartition(".")[2] in LINEAR)

    def taken(folder: Path) -> bool:
        adapter = read_adapter(folder)
        counting = tensors_that_count(adapter, base)
        return is_plain_lora(adapter.config) and are_plain_factors(counting, modules, 16)

    return taken


@pytest.mark.parametrize("kind", TAKEN)
def test_plain_factors_are_taken(kind, tmp_path, tiny_base, is_taken):
    assert is_taken(make_adapter(tmp_path / "adapter", tiny_base, config=TAKEN[kind]))


@pytest.mark.parametrize("kind", LEFT_TO_OTHERS)
def test_what_is_more_than_plain_factors_is_not(kind, tmp_path, tiny_base, is_taken):
    assert not is_taken(make_adapter(tmp_path / "adapter", tiny_base, config=LEFT_TO_OTHERS[kind]))


@pytest.mark.parametrize(
    "setting",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"trainable_token_indices": {"embed_tokens": [1]}},
        {"init_lora_weights": "corda"},
        {"alora_invocation_tokens": [1]},
        {"layer_replication": [[0, 1]]},
        {"target_parameters": ["experts.down_proj"]},
        {"use_bdlora": {"nblocks": 2}},
        {"use_qalora": True},
        {"megatron_config": {"a": 1}, "peft_type": "ADALORA"},
    ],
    ids=str,
)
def test_a_setting_counts_even_if_no_tensor_shows_it(setting):
    plain = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": Q}

    assert is_plain_lora(AdapterConfig.parse(json.dumps(plain).encode()))
    assert not is_plain_lora(AdapterConfig.parse(json.dumps(plain | setting).encode()))


def test_tensors_of_layers_that_vllm_does_not_wrap_are_seen(tmp_path, tiny_base, read_adapter):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base, target_modules=LINEAR))
    modules = {name.removeprefix(PREFIX).partition(".lora_")[0] for name in adapter.tensors}

    assert are_plain_factors(adapter.tensors, modules, 4)
    for absent in modules:
        assert not are_plain_factors(adapter.tensors, modules - {absent}, 4)


def test_a_stray_tensor_is_seen(tmp_path, tiny_base, read_adapter):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base, target_modules=Q))
    modules = {f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)}
    stray = {"base_model.model.model.norm.weight": torch.ones(32)}

    assert are_plain_factors(adapter.tensors, modules, 16)
    assert not are_plain_factors(dict(adapter.tensors) | stray, modules, 16)


def test_room_is_made_in_the_sizes_that_vllm_has():
    assert [smallest_room(rank) for rank in (1, 8, 9, 100, 512)] == [8, 8, 16, 128, 512]
    with pytest.raises(UsageError, match="512"):
        smallest_room(MAX_RANKS[-1] + 1)


def test_a_base_that_nobody_has_compared_is_refused(tmp_path):
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(UsageError, match="gpt2"):
        VllmEngine(tmp_path, ALPACA_5)


def test_without_vllm_the_extra_is_named(tiny_base, monkeypatch, request):
    try:
        request.getfixturevalue("benches")
    except pytest.skip.Exception:
        with pytest.raises(MissingExtraError, match=r"hubdelta\[vllm\]"):
            VllmEngine(tiny_base, ALPACA_5)
    else:
        pytest.skip("vLLM is installed")


def test_the_probes_are_cut_as_for_the_other_engines(tiny_base):
    for own, other in zip(
        tokenized(tiny_base, ALPACA_5), BaseModel.load(tiny_base, ALPACA_5).probes, strict=True
    ):
        assert torch.equal(own, other)


def test_a_rank_in_the_file_counts_more_than_one_in_the_config(tmp_path, tiny_base, is_taken):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    config = peft.LoraConfig(target_modules=Q, r=20)
    folder = save_adapter(tmp_path / "adapter", model, config, "base")
    written = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(written | {"r": 8}))

    assert not is_taken(folder)
