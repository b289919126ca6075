"""What the stacked engine must leave to the reference engine, for it would not be exact."""

from dataclasses import replace

import peft
import pytest
import torch
from adapter_kinds import KINDS, kind_named
from families import family, make_adapter
from made_by_peft import read_adapter, relative_error, run

from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import RoutedEngine

LLAMA, GPT2, MIXTRAL = family("llama"), family("gpt2"), family("mixtral")
LORA = kind_named("lora")

CONFIGS = {made: kind for kind, made in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.items()}
EXACT_TYPES = {CONFIGS[kind.config] for kind in KINDS}

NOT_EXACT = {
    "prompt tuning": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix tuning": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "p-tuning": peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "cpt": peft.CPTConfig(
        task_type="CAUSAL_LM", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2]
    ),
    "alora": peft.LoraConfig(
        task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[1, 2]
    ),
    "pissa": peft.LoraConfig(target_modules=["q_proj"], init_lora_weights="pissa"),
    "olora": peft.LoraConfig(target_modules=["q_proj"], init_lora_weights="olora"),
    "layer replication": peft.LoraConfig(
        target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]]
    ),
    "constrained oft": peft.OFTConfig(target_modules=["q_proj"], r=4, oft_block_size=0, coft=True),
    "waveft by size": peft.WaveFTConfig(
        target_modules=["q_proj"], n_frequency=50, proportional_parameters=True
    ),
    "miss in the base's weight": peft.MissConfig(
        target_modules=["q_proj"], r=4, init_weights="bat"
    ),
    "hira with other ranks": peft.HiraConfig(
        target_modules=["q_proj"], r=4, rank_pattern={"q_proj": 2}
    ),
    "vblora without its logits": peft.VBLoRAConfig(
        target_modules=["q_proj"], num_vectors=8, vector_length=8, save_only_topk_weights=True
    ),
}

EITHER_WAY = {
    # what may be computed exactly or left alone, but not computed wrong
    "adalora": (LLAMA, peft.AdaLoraConfig, {"target_modules": ["q_proj"], "total_step": 10}),
    "vera without its projections": (
        LLAMA,
        peft.VeraConfig,
        {"target_modules": ["q_proj"], "save_projection": False},
    ),
    "lora on positions": (GPT2, peft.LoraConfig, {"target_modules": ["wpe", "c_attn"]}),
    "saved positions": (
        GPT2,
        peft.LoraConfig,
        {"target_modules": ["c_attn"], "modules_to_save": ["wpe"]},
    ),
    "gaussian": (
        LLAMA,
        peft.LoraConfig,
        {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"},
    ),
    "orthogonal": (
        LLAMA,
        peft.LoraConfig,
        {"target_modules": ["q_proj"], "r": 4, "init_lora_weights": "orthogonal"},
    ),
}

VARIANTS = {
    "pissa_niter": {"init_lora_weights": "pissa_niter_4"},
    "corda": {"init_lora_weights": "corda"},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}},
    "lora-ga": {"init_lora_weights": "lora_ga"},
    "mica": {"init_lora_weights": "mica"},
    "bd-lora": {"use_bdlora": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}},
    "kasa": {"kasa_config": {"beta": 1e-4}},
    "monteclora": {"monteclora_config": {"num_samples": 2}},
    "arrow": {"arrow_config": {"top_k": 2}},
    "alora": {"alora_invocation_tokens": [1, 2]},
    "layer replication": {"layer_replication": [[0, 2], [1, 2]]},
}


@pytest.fixture
def lora(pool_of):
    return pool_of(LLAMA).made(LORA)[0].adapter


@pytest.mark.parametrize("kind", NOT_EXACT)
def test_left_to_the_reference(kind, tmp_path, pool_of, engine_of):
    folder = make_adapter(tmp_path, pool_of(LLAMA).base.folder, config=NOT_EXACT[kind])

    assert not engine_of(LLAMA).can_embed(read_adapter(folder))


@pytest.mark.filterwarnings("ignore:Specified to not save:UserWarning")
def test_randlora_without_its_bases_is_left_to_the_reference(tmp_path, pool_of, engine_of):
    config = peft.RandLoraConfig(target_modules=["q_proj"], r=4, save_projection=False)
    folder = make_adapter(tmp_path, pool_of(LLAMA).base.folder, config=config)

    assert not engine_of(LLAMA).can_embed(read_adapter(folder))


SHARED_EMBEDDING = [
    (family("t5"), "saved embedding"),
    (family("t5"), "lora on embedding"),
    (family("mt5"), "dora on embedding"),
    (family("mt5"), "trainable tokens"),
    (family("bart"), "saved embedding and output layer"),
    (family("bart"), "trainable tokens in lora"),
]


@pytest.mark.parametrize(("family", "kind"), SHARED_EMBEDDING, ids=str)
def test_an_embedding_of_encoder_and_decoder_is_left_to_the_reference(
    family, kind, pool_of, engine_of
):
    pool = pool_of(family)
    made = pool.made(kind_named(kind))

    assert not any(engine_of(family).can_embed(one.adapter) for one in made)
    for place, answer in ReferenceEngine(pool.base).answers([one.adapter for one in made]):
        assert relative_error(answer.activations, made[place].expected) <= 1e-5


def test_lora_on_experts_that_were_modules_is_left_to_the_reference(lora, engine_of):
    """Mixtral's experts were modules before transformers 5; PEFT converts such adapters."""
    expert = "base_model.model.model.layers.0.block_sparse_moe.experts.0.w1"
    adapter = replace(
        lora,
        config=AdapterConfig("LORA", lora.config.values | {"r": 2, "target_modules": ["w1"]}),
        tensors={
            f"{expert}.lora_A.weight": torch.ones(2, 32),
            f"{expert}.lora_B.weight": torch.ones(64, 2),
        },
    )

    assert not engine_of(MIXTRAL).can_embed(adapter)


@pytest.mark.filterwarnings("ignore:Specified to not (save|load) vera_A and vera_B")
@pytest.mark.parametrize("kind", EITHER_WAY)
def test_what_may_go_either_way_is_exact_where_it_is_taken(kind, tmp_path, pool_of, engine_of):
    family, config, settings = EITHER_WAY[kind]
    pool, engine = pool_of(family), engine_of(family)
    folder = make_adapter(tmp_path, pool.base.folder, config=config(**settings))
    expected = run(pool.load(folder), pool.base.probes)

    if engine.can_embed(read_adapter(folder)):
        ((_, answer),) = engine.answers([read_adapter(folder)])
        assert relative_error(answer.activations, expected) <= 1e-5


def test_a_tensor_that_no_edit_takes_is_not_left_out(tmp_path, pool_of, engine_of):
    """PEFT replaces rows of any layer's weight; here that is known of embeddings only."""
    pool = pool_of(LLAMA)
    config = peft.TrainableTokensConfig(target_modules=["q_proj"], token_indices=[1, 2])
    folder = make_adapter(tmp_path, pool.base.folder, config=config)
    expected = run(pool.load(folder), pool.base.probes)
    engine = RoutedEngine(engine_of(LLAMA), lambda: ReferenceEngine(pool.base))

    ((_, answer),) = engine.answers([read_adapter(folder)])

    assert relative_error(expected, pool.base_activations) > 1e-3
    assert relative_error(answer.activations, expected) <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_lora_is_not_taken_for_plain_lora(variant, lora, engine_of):
    values = lora.config.values | VARIANTS[variant]

    assert engine_of(LLAMA).can_embed(lora)
    assert not engine_of(LLAMA).can_embed(replace(lora, config=AdapterConfig("LORA", values)))


@pytest.mark.parametrize(
    "peft_type", [*sorted(set(peft.PeftType) - EXACT_TYPES), "OF_A_LATER_PEFT"]
)
def test_a_type_without_a_rule_is_left_to_the_reference(peft_type, lora, engine_of):
    config = replace(lora.config, peft_type=str(peft_type))

    assert not engine_of(LLAMA).can_embed(replace(lora, config=config))


def test_a_full_finetune_is_left_to_the_streamed_engine(engine_of, lora):
    finetune = FullFinetune(lora.key, {}, Checkpoint({}), weight_bytes=0)

    assert not engine_of(LLAMA).can_embed(finetune)
