"""The vLLM engine against the reference engine in fp32: every base and every setting it takes."""

from pathlib import Path

import peft
import pytest
import torch
from families import family, make_adapter, save_adapter
from transformers import AutoModelForCausalLM
from vllm_bench import MAX_RANK, small_base

import hubdelta.demo
from hubdelta.indexer.engines.vllm.support import MODEL_TYPES

POOL = Path(hubdelta.demo.__file__).parent / "hub"
Q, LINEAR = ["q_proj"], list(family("llama").linear)

SETTINGS = {
    "one layer": {"target_modules": Q, "layers_to_transform": [1]},
    "parts of fused layers": {"target_modules": ["k_proj", "up_proj"]},
    "a pattern for names": {"target_modules": r".*\.0\..*(q|down)_proj"},
    "rslora": {"target_modules": LINEAR, "use_rslora": True, "r": 5, "lora_alpha": 3},
    "a scaling that is no power of two": {"target_modules": LINEAR, "r": 3, "lora_alpha": 7},
    "ranks and scalings by name": {
        "target_modules": LINEAR,
        "rank_pattern": {"q_proj": 1, r"1\.self_attn\.v_proj": 7, "down_proj": MAX_RANK},
        "alpha_pattern": {"v_proj": 9, r"layers\.0\.mlp\.up_proj": 1},
    },
    "rslora by name": {
        "target_modules": LINEAR,
        "use_rslora": True,
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"k_proj": 5},
    },
    "the largest rank": {"target_modules": LINEAR, "r": MAX_RANK},
    "the output layer too": {"target_modules": [*Q, "lm_head"]},
    "the output layer saved": {"target_modules": Q, "modules_to_save": ["lm_head"]},
}


@pytest.mark.parametrize("model_type", sorted(MODEL_TYPES))
def test_on_each_linear_layer_of_each_base(model_type, benches, tmp_path, read_adapter):
    own = family(model_type)
    bench = benches.on(small_base(tmp_path / "base", own))
    targets = [*([name] for name in own.linear), list(own.linear)]
    adapters = [
        read_adapter(make_adapter(tmp_path / str(seed), bench.folder, target_modules=names))
        for seed, names in enumerate(targets)
    ]
    base = abs(bench.vllm.baseline.activations - bench.reference.baseline.activations)

    assert base.max() < 1e-4  # the last token's state after the final norm, as it is
    bench.assert_agreement(adapters)


@pytest.mark.parametrize("setting", SETTINGS)
def test_on_each_setting(setting, bench, tmp_path, read_adapter):
    folder = make_adapter(tmp_path / "adapter", bench.folder, **SETTINGS[setting])

    bench.assert_agreement([read_adapter(folder)])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_on_files_of_half_precision(dtype, bench, tmp_path, read_adapter):
    config = peft.LoraConfig(target_modules=LINEAR, r=3, lora_alpha=7)
    model = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=torch.float32)
    folder = save_adapter(tmp_path / "adapter", model, config, "base", dtype=dtype)

    bench.assert_agreement([read_adapter(folder)])


def test_on_adapters_that_were_really_trained(benches, demo_base, read_adapter):
    bench = benches.on(demo_base)
    adapters = [read_adapter(file.parent) for file in sorted(POOL.rglob("adapter_config.json"))]

    assert len(adapters) >= 15
    bench.assert_agreement(adapters)
