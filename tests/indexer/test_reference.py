"""The reference engine against PEFT's own forward pass, for every kind of adapter."""

import json
import random
from itertools import product
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import family, load_model, make_adapter, make_base
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason
from hubdelta.schemas.keys import AdapterKey

KINDS = {
    "lora": peft.LoraConfig(target_modules=["q_proj", "v_proj"]),
    "all-linear": peft.LoraConfig(r=4, target_modules="all-linear"),
    "rslora": peft.LoraConfig(use_rslora=True, target_modules=["q_proj"]),
    "dora": peft.LoraConfig(use_dora=True, target_modules=["q_proj"]),
    "bias": peft.LoraConfig(target_modules=["q_proj"], bias="all"),
    "rank pattern": peft.LoraConfig(
        target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 2}, alpha_pattern={"v_proj": 9}
    ),
    "some layers": peft.LoraConfig(target_modules=["q_proj"], layers_to_transform=[1]),
    "embeddings": peft.LoraConfig(target_modules=["embed_tokens", "q_proj"]),
    "modules to save": peft.LoraConfig(
        target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    ),
    "trainable tokens": peft.LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1, 2]),
    "pissa": peft.LoraConfig(target_modules=["q_proj"], init_lora_weights="pissa"),
    "olora": peft.LoraConfig(target_modules=["q_proj"], init_lora_weights="olora"),
    "kasa": peft.LoraConfig(target_modules=["q_proj", "v_proj"], kasa_config=peft.KasaConfig()),
    "layer replication": peft.LoraConfig(
        target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]]
    ),
    "cpt": peft.CPTConfig(
        task_type="CAUSAL_LM", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2]
    ),
    "adalora": peft.AdaLoraConfig(target_modules=["q_proj"], total_step=10),
    "ia3": peft.IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ),
    "vera": peft.VeraConfig(target_modules=["q_proj"]),
    "loha": peft.LoHaConfig(target_modules=["q_proj"]),
    "lokr": peft.LoKrConfig(target_modules=["q_proj"]),
    "oft": peft.OFTConfig(target_modules=["q_proj"], r=4, oft_block_size=0),
    "layer norms": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "prefix": peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    "p-tuning": peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
}


def results(engine, *adapters):
    """Activations of each adapter, or its error, in the order of the adapters."""
    by_place = dict(engine.answers(adapters))
    answers = [by_place[place] for place in range(len(adapters))]
    return [a if isinstance(a, AdapterError) else a.activations for a in answers]


def state_checksum(model):
    return {name: tensor.double().sum().item() for name, tensor in model.state_dict().items()}


@pytest.mark.filterwarnings("ignore:Unsupported layer type .*RMSNorm")  # of layer norms
@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_those_of_peft_and_the_base_is_untouched(
    kind, tmp_path, tiny_base, base, engine, read_adapter
):
    folder = make_adapter(tmp_path / "adapter", tiny_base, config=KINDS[kind])
    before = state_checksum(base.model)
    config = base.model.config.to_dict()
    modules = [name for name, _ in base.model.named_modules()]

    activations = results(engine, read_adapter(folder))[0]

    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(model, folder).eval()
    with torch.no_grad():
        expected = np.stack(
            [
                loaded(
                    input_ids=probe,
                    attention_mask=torch.ones_like(probe),
                    output_hidden_states=True,
                    use_cache=False,
                ).hidden_states[-1][0, -1]
                for probe in base.probes
            ]
        )
    np.testing.assert_allclose(activations, expected, rtol=1e-5, atol=1e-5)
    assert np.linalg.norm(activations - engine.baseline.activations) > 1e-3
    assert state_checksum(base.model) == before
    assert base.model.config.to_dict() == config
    again = ReferenceEngine(base).baseline.activations
    np.testing.assert_array_equal(again, engine.baseline.activations)
    assert [name for name, _ in base.model.named_modules()] == modules


def test_results_do_not_depend_on_what_came_before(tmp_path, tiny_base, engine, read_adapter):
    """The published script lets an adapter inherit the layers of the one before it."""
    adapters = {
        name: read_adapter(make_adapter(tmp_path / name, tiny_base, config=config, seed=seed))
        for seed, (name, config) in enumerate(KINDS.items())
    }
    alone = {name: results(engine, adapter)[0] for name, adapter in adapters.items()}
    names = list(adapters)
    for seed in range(3):
        random.Random(seed).shuffle(names)
        together = results(engine, *(adapters[name] for name in names))
        for name, activations in zip(names, together, strict=True):
            np.testing.assert_array_equal(activations, alone[name])


@pytest.mark.parametrize("make", [ReferenceEngine, StackedEngine])
def test_magnitudes_count_as_for_peft_only_where_the_config_says_so(
    make, tmp_path, tiny_base, base, read_adapter, caplog
):
    folder = make_adapter(tmp_path / "adapter", tiny_base, use_dora=True)
    dora = read_adapter(folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": False}))
    caplog.set_level("INFO")

    plain, with_magnitudes = results(make(base), read_adapter(folder), dora)

    loaded = peft.PeftModel.from_pretrained(load_model(tiny_base), folder).eval()
    with torch.no_grad():
        states = [loaded.base_model.model.model(input_ids=probe) for probe in base.probes]
    expected = np.stack([state.last_hidden_state[0, -1] for state in states])
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(plain - with_magnitudes) > 1e-3
    assert "ignored 4 magnitude vectors, as PEFT does" in caplog.text


def test_a_broken_adapter_does_not_take_its_batch_down(tmp_path, tiny_base, engine, read_adapter):
    good = read_adapter(make_adapter(tmp_path / "good", tiny_base))
    other = make_base(tmp_path / "other", hidden_size=64)
    bad = read_adapter(make_adapter(tmp_path / "bad", other))

    first, error, second = results(engine, good, bad, good)

    assert isinstance(error, AdapterError)
    assert error.reason is Reason.BASE_MISMATCH
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("change", "reason", "named"),
    [
        (lambda t: t.pop(next(iter(t))), Reason.CORRUPT, "q_proj"),
        (lambda t: t.update(surprise=torch.zeros(1)), Reason.BASE_MISMATCH, "surprise"),
        (
            lambda t: [t.update({"model." + name: t.pop(name)}) for name in list(t)],
            Reason.BASE_MISMATCH,
            "model.base_model",
        ),
    ],
    ids=["missing tensor", "extra tensor", "wrong prefix"],
)
def test_wrong_tensors_are_named_never_silently_ignored(
    change, reason, named, tmp_path, tiny_base, engine, read_adapter
):
    folder = make_adapter(tmp_path / "adapter", tiny_base)
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")

    error = results(engine, read_adapter(folder))[0]

    assert isinstance(error, AdapterError)
    assert error.reason is reason
    assert named in str(error)


def edit_config(folder: Path, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_classifier_head_is_left_out(tmp_path, tiny_base, engine, read_adapter):
    """Real pools hold SEQ_CLS adapters: LoRA like any other, under a head the base lacks."""
    plain = make_adapter(tmp_path / "plain", tiny_base)
    classifier = make_adapter(tmp_path / "classifier", tiny_base)
    edit_config(classifier, task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    weights = classifier / "adapter_model.safetensors"
    head = {"base_model.model.score.weight": torch.zeros(2, 32)}
    save_file(load_file(weights) | head, weights)

    first, second = results(engine, read_adapter(plain), read_adapter(classifier))

    np.testing.assert_array_equal(first, second)


def test_configs_of_other_peft_versions(tmp_path, tiny_base, engine, read_adapter):
    plain = make_adapter(tmp_path / "plain", tiny_base)
    odd = make_adapter(tmp_path / "odd", tiny_base)
    edit_config(odd, fan_in_fan_out=None, future_option=False, auto_mapping={"x": 1}, revision=None)
    unknown = make_adapter(tmp_path / "unknown", tiny_base)
    edit_config(unknown, use_qpissa_twice=True, peft_version="99.1.0")

    first, second, error = results(engine, *map(read_adapter, (plain, odd, unknown)))

    np.testing.assert_array_equal(first, second)
    assert isinstance(error, AdapterError)
    assert error.reason is Reason.UNSUPPORTED_ADAPTER
    assert "use_qpissa_twice" in str(error)


@pytest.mark.parametrize(
    "more",
    [
        {"created_by": "Axolotl", "training_args": {"lr": 2e-4}, "torch_dtype": "bfloat16"},
        {"loraplus_lr_ratio": 16.0, "use_gradient_checkpointing": "unsloth"},
        {"enable_lora": [True, False, True], "merge_weights": True, "peft_version": None},
        {"quantization_config": {"load_in_4bit": True}, "base_model": "tiny"},
        {"r": "4", "lora_alpha": "8", "peft_type": "PeftType.LORA"},
    ],
)
def test_keys_of_trainers_and_numbers_in_quotes_change_nothing(
    more, tmp_path, tiny_base, engine, read_adapter
):
    plain = make_adapter(tmp_path / "plain", tiny_base, r=4, lora_alpha=8)
    own = make_adapter(tmp_path / "own", tiny_base, r=4, lora_alpha=8)
    edit_config(own, **more)

    first, second = results(engine, *map(read_adapter, (plain, own)))

    np.testing.assert_array_equal(first, second)


def test_an_incomplete_base_is_refused_not_filled_with_random_numbers(tmp_path):
    folder = make_base(tmp_path / "incomplete")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(HubdeltaError, match="up_proj"):
        BaseModel.load(folder, ALPACA_5)


def key_of(folder: Path) -> AdapterKey:
    return AdapterKey(folder.as_posix(), "", "0" * 40)


def test_a_zero_adapter_is_within_the_noise_floor(tmp_path, tiny_base, engine, read_adapter):
    zero = read_adapter(make_adapter(tmp_path / "zero", tiny_base, scale=0.0))

    delta = (results(engine, zero)[0] - engine.baseline.activations).mean(axis=0)

    assert np.linalg.norm(delta) <= engine.baseline.noise_floor
    assert 0 < engine.baseline.noise_floor < 1e-4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, Reason.UNSUPPORTED_ADAPTER),
        ({"peft_type": "XLORA"}, Reason.UNSUPPORTED_ADAPTER),
        ({"peft_type": "\x1b]0;pwned\x07 \ud800"}, Reason.UNSUPPORTED_ADAPTER),
    ],
    ids=["random init", "needs more", "hostile type"],
)
def test_what_cannot_be_exact_is_refused_in_printable_words(
    values, reason, tmp_path, tiny_base, engine, read_adapter
):
    folder = make_adapter(tmp_path / "adapter", tiny_base)
    edit_config(folder, **values)

    error = results(engine, read_adapter(folder))[0]

    assert isinstance(error, AdapterError)
    assert error.reason is reason
    assert str(error).encode("utf-8").decode().isprintable()


@pytest.mark.filterwarnings("ignore:`loftq_config` specified but will be ignored")
@pytest.mark.parametrize("init", ["corda", "loftq", "of-a-later-peft"])
def test_a_start_that_peft_cannot_repeat_is_named(init, tmp_path, tiny_base, engine, read_adapter):
    folder = make_adapter(tmp_path / "adapter", tiny_base)
    edit_config(folder, init_lora_weights=init, loftq_config={"loftq_bits": 4, "loftq_iter": 1})

    (error,) = results(engine, read_adapter(folder))

    assert error.reason is Reason.UNSUPPORTED_ADAPTER
    assert f"init_lora_weights={init}" in str(error)


def test_tied_embeddings_that_were_saved_are_used(tmp_path, read_adapter):
    """The output layer's copy is left out; the input's own must not be missed for it."""
    gemma = family("gemma2")
    folder = make_base(tmp_path / "base", model_type="gemma2", **gemma.config)
    adapter = make_adapter(
        tmp_path / "adapter",
        folder,
        target_modules=["q_proj"],
        modules_to_save=["embed_tokens"],
        ensure_weight_tying=True,
    )
    base = BaseModel.load(folder, ALPACA_5)

    (activations,) = results(ReferenceEngine(base), read_adapter(adapter))

    (stacked,) = results(StackedEngine(base), read_adapter(adapter))
    np.testing.assert_allclose(activations, stacked, rtol=1e-4, atol=1e-5)
    assert np.linalg.norm(activations - ReferenceEngine(base).baseline.activations) > 1e-3


def test_experts_of_an_older_transformers_find_their_place(tmp_path, read_adapter):
    """Mixtral's experts were modules before transformers 5; PEFT knows their new names."""
    mixtral = family("mixtral")
    base = make_base(tmp_path / "base", model_type="mixtral", **mixtral.config)
    folder = make_adapter(tmp_path / "adapter", base, r=2, target_modules=["q_proj"])
    edit_config(folder, target_modules=["w1", "w2", "w3"])
    expert = "base_model.model.model.layers.{}.block_sparse_moe.experts.{}.{}."
    tensors = {}
    for layer, number, name in product(range(2), range(4), ("w1", "w2", "w3")):
        inner, outer = (64, 32) if name == "w2" else (32, 64)
        place = expert.format(layer, number, name)
        tensors[place + "lora_A.weight"] = 0.1 * torch.randn(2, inner)
        tensors[place + "lora_B.weight"] = 0.1 * torch.randn(outer, 2)
    save_file(tensors, folder / "adapter_model.safetensors")
    engine = ReferenceEngine(BaseModel.load(base, ALPACA_5))

    (activations,) = results(engine, read_adapter(folder))

    assert np.linalg.norm(activations - engine.baseline.activations) > 1e-3

    del tensors[expert.format(1, 3, "w2") + "lora_B.weight"]
    save_file(tensors, folder / "adapter_model.safetensors")
    (error,) = results(engine, read_adapter(folder))
    assert isinstance(error, AdapterError)
