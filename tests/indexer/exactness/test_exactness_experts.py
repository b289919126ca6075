"""LoRA of single parameters, as of a mixture's experts and routers, against PEFT's forward pass."""

from dataclasses import replace

import peft
import pytest
import torch
from families import DEEPSEEK, load_model, make_adapter, make_base
from made_by_peft import read_adapter, relative_change, relative_error, run

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5

EXPERTS = 4
TOLERANCE = 1e-5

BASES = {
    "mixtral": {"num_local_experts": EXPERTS},
    "qwen3_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    # biases, and weights stored as (in, out)
    "gpt_oss": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2, "head_dim": 8},
    "deepseek_v3": DEEPSEEK | {"n_routed_experts": EXPERTS, "q_lora_rank": 8},
    "llama4_text": {  # all experts see all tokens, which their routers scale
        "num_local_experts": EXPERTS,
        "head_dim": 8,
        "intermediate_size_mlp": 64,
        "interleave_moe_layer_step": 1,
    },
    "granitemoe": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
    "nemotron_h": {  # no gates, and Mamba layers between
        "layers_block_type": ["mamba", "moe", "attention", "moe"],
        "n_routed_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "n_groups": 2,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
    },
}
"""Settings by model type, one for each way in which experts are stored or called."""

ROUTERS = {"mixtral": "gate", "gpt_oss": "router", "deepseek_v3": "gate"}

ATTENTION = ["q_proj", "v_proj", "o_proj", "kv_b_proj"]


def settings(model_type):
    """LoRA settings of adapters that a base has, by name."""
    first = "up_proj" if model_type == "nemotron_h" else "gate_up_proj"
    both = [f"experts.{first}", "experts.down_proj"]
    made = {
        # Their tensors have the same names.
        "the first parameter": {"target_parameters": both[:1]},
        "the second parameter": {"target_parameters": both[1:]},
        "both": {"target_parameters": both, "r": 3, "lora_alpha": 5, "use_rslora": True},
        "other ranks": {
            "target_parameters": both,
            "rank_pattern": {f".*experts.{first}": 6},
            "alpha_pattern": {r".*1\..*experts.down_proj": 20},
        },
        "beside layers": {"target_parameters": both, "target_modules": ATTENTION, "r": 2},
        "a table": {"target_parameters": ["embed_tokens.weight", "embeddings.weight"]},
        "layers as parameters": {"target_parameters": [f"{name}.weight" for name in ATTENTION]},
        "layers alone": {"target_modules": ATTENTION, "target_parameters": None},
    }
    if model_type not in ("llama4_text", "nemotron_h"):  # PEFT refuses some of their layers
        made["all layers"] = {"target_modules": "all-linear"}
    if model_type == "mixtral":  # names of transformers 4, which PEFT translates
        made["single experts"] = {"target_modules": ["w1", "w2", "w3"]}
    if model_type in ROUTERS:
        made["router"] = {"target_parameters": [f"{ROUTERS[model_type]}.weight"]}
        made["saved router"] = {"target_modules": ATTENTION, "target_parameters": None} | {
            "modules_to_save": [ROUTERS[model_type]]
        }
    return {name: {"target_modules": []} | kind for name, kind in made.items()}


@pytest.mark.parametrize("model_type", BASES)
def test_each_token_goes_through_the_experts_of_its_own_adapter(model_type, tmp_path):
    folder = make_base(tmp_path / "base", model_type=model_type, **BASES[model_type])
    base = BaseModel.load(folder, ALPACA_5)
    expected, adapters = {}, []
    for number, (name, lora) in enumerate(settings(model_type).items()):
        saved = make_adapter(
            tmp_path / name, folder, config=peft.LoraConfig(**({"r": 4} | lora)), seed=number
        )
        adapters.append(read_adapter(saved))
        wrapped = peft.PeftModel.from_pretrained(load_model(folder), saved).eval()
        expected[name] = run(wrapped, base.probes)
    own = run(base.model, base.probes)
    engine = StackedEngine(base)

    together = dict(engine.answers(adapters))

    for place, name in enumerate(expected):
        assert engine.can_embed(adapters[place]), name
        assert relative_change(expected[name], own) > 1e-3, name
        ((_, alone),) = engine.answers([adapters[place]])
        for answer in (together[place], alone):
            assert isinstance(answer, Answer), (name, answer)
            assert relative_error(answer.activations, expected[name]) <= TOLERANCE, name


def test_dropout_which_does_nothing_after_training_is_no_obstacle(tmp_path):
    """PEFT refuses it with target_parameters; the answer must not depend on who came before."""
    folder = make_base(tmp_path / "base", model_type="mixtral", **BASES["mixtral"])
    config = peft.LoraConfig(r=4, target_modules=[], target_parameters=["experts.down_proj"])
    plain = read_adapter(make_adapter(tmp_path / "adapter", folder, config=config))
    dropped = replace(
        plain, config=AdapterConfig("LORA", plain.config.values | {"lora_dropout": 0.1})
    )

    for order in ([plain, dropped], [dropped, plain]):
        answers = dict(StackedEngine(BaseModel.load(folder, ALPACA_5)).answers(order))
        assert relative_error(answers[0].activations, answers[1].activations) <= TOLERANCE


def test_experts_stay_exact_beside_products_in_bf16(tmp_path):
    """Experts see other tokens than the base's, so their products are in fp32 all the same."""
    folder = make_base(tmp_path / "base", model_type="mixtral", **BASES["mixtral"])
    base = BaseModel.load(folder, ALPACA_5)
    config = peft.LoraConfig(r=4, target_modules=[], target_parameters=["experts.down_proj"])
    saved = make_adapter(tmp_path / "adapter", folder, config=config, scale=0.01)
    wrapped = peft.PeftModel.from_pretrained(load_model(folder), saved).eval()
    engine = StackedEngine(base, precision="bf16")

    ((_, answer),) = engine.answers([read_adapter(saved)])

    delta = torch.tensor(run(wrapped, base.probes) - run(base.model, base.probes)).flatten()
    found = torch.tensor(answer.activations - answer.baseline.activations).flatten()
    assert torch.cosine_similarity(delta, found, dim=0) > 0.999
