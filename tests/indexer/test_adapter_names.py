"""The places of tensors in a base, under all names that trainers give them."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import peft
import pytest
import torch
from families import make_adapter, save_adapter
from image_text import load_image_text, make_image_text_base
from test_image_text_bases import last_states

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.adapter_names import AdapterNames
from hubdelta.indexer.adapters.compatibility import check_fit
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Engine
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

PREFIX = "base_model.model."


def placed(base, adapter, change=lambda name: name):
    """An adapter whose tensors had other names when it was saved, as it is read."""
    tensors = {change(name): tensor for name, tensor in adapter.tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    placement = AdapterNames(base).place(adapter.config, shapes)
    check_fit(placement.shapes(shapes), base.shapes, placement.parameters)
    return replace(adapter, config=placement.config, tensors=placement.tensors(tensors))


class ImageText(NamedTuple):
    """A tiny image-text base and the engine on it, which the adapters of all tests share."""

    folder: Path
    base: BaseModel
    engine: Engine


@pytest.fixture(scope="module")
def image_text(tmp_path_factory):
    """The base of a type."""

    @cache
    def of(model_type: str) -> ImageText:
        folder = make_image_text_base(tmp_path_factory.mktemp("base") / model_type, model_type)
        base = BaseModel.load(folder, ALPACA_5)
        return ImageText(
            folder,
            base,
            make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32")),
        )

    return of


OLDER = {
    "gemma3": ("model.language_model.", "language_model.model."),
    "qwen3_5": ("model.language_model.", "model."),
    "mistral3": ("model.language_model.", "language_model.model."),
}


@pytest.mark.parametrize("targets", [r"(?!.*vis).*\.(q_proj|down_proj)", "all-linear"])
@pytest.mark.parametrize("model_type", sorted(OLDER))
def test_adapters_of_the_image_text_class_fit_under_older_and_newer_names(
    model_type, targets, image_text, tmp_path, read_adapter
):
    folder, base, engine = image_text(model_type)
    model = load_image_text(folder)
    config = peft.LoraConfig(r=4, target_modules=targets)
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    adapter = read_adapter(tmp_path / "adapter")
    expected = last_states(model.eval(), base.probes)  # PEFT has put the adapter into it
    new, old = OLDER[model_type]
    older = placed(base, adapter, lambda name: name.replace(PREFIX + new, PREFIX + old))

    for _, answer in engine.answers([placed(base, adapter), older]):
        np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


PATTERNS = [
    "language_model.layers.1.self_attn.q_proj",
    r"^model\.language_model\.layers\.1\..*",
    r"language_model\.layers\.(1|7)\.self_attn\.q_proj",
    r"model\.language_model\.layers\.1\.self_attn\.\w+",
    r".*\.1\..*q_proj",
]


EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": [], "target_parameters": EXPERTS},
        {"target_modules": ["q_proj", "o_proj"], "target_parameters": EXPERTS},
        {
            "target_modules": [],
            "target_parameters": EXPERTS[1:],
            "alpha_pattern": {EXPERTS[1]: 40},
        },
        {"target_modules": [], "target_parameters": ["language_model.{}layers.1.{}.down_proj"]},
    ],
    ids=["experts", "experts and layers", "one parameter", "one layer"],
)
@pytest.mark.parametrize("model_type", ["llama4", "qwen3_5_moe"])
def test_parameters_that_the_image_text_class_names_stay_parameters(
    model_type, settings, image_text, tmp_path, read_adapter
):
    folder, base, engine = image_text(model_type)
    model = load_image_text(folder)
    words = ("model.", "feed_forward.experts") if model_type == "llama4" else ("", "mlp.experts")
    named = [name.format(*words) for name in settings["target_parameters"]]
    config = peft.LoraConfig(r=2, **settings | {"target_parameters": named})
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    expected = last_states(model.eval(), base.probes)

    found = placed(base, read_adapter(tmp_path / "adapter"))
    ((_, answer),) = engine.answers([found])

    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)
    assert not any("experts" in name for name in found.config.values["target_modules"])


@pytest.mark.parametrize("kind", [peft.LoraConfig, peft.LoHaConfig, peft.LoKrConfig])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("model_type", ["gemma3", "qwen3_5"])
def test_ranks_of_single_layers_follow_their_layers(
    model_type, pattern, kind, image_text, tmp_path, read_adapter
):
    folder, base, engine = image_text(model_type)
    model = load_image_text(folder)
    config = kind(
        r=4,
        target_modules=r".*language_model.*q_proj",
        rank_pattern={pattern: 2},
        alpha_pattern={pattern: 90},
    )
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    adapter = read_adapter(tmp_path / "adapter")

    ((_, answer),) = engine.answers([placed(base, adapter)])

    expected = last_states(model.eval(), base.probes)
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


def test_a_pattern_of_older_names_counts_by_these(image_text, tmp_path, read_adapter):
    folder, base, engine = image_text("gemma3")
    model = load_image_text(folder)
    pattern = r"^model\.language_model\.layers\.1\..*"
    config = peft.LoraConfig(
        r=4, target_modules=r".*language_model.*q_proj", alpha_pattern={pattern: 90}
    )
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    adapter = read_adapter(tmp_path / "adapter")
    adapter.config.values["alpha_pattern"] = {r"^language_model\.model\.layers\.1\..*": 90}

    old_names = ("model.language_model.", "language_model.model.")
    older = placed(base, adapter, lambda name: name.replace(*old_names))
    ((_, answer),) = engine.answers([older])

    expected = last_states(model.eval(), base.probes)
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


def test_tokens_of_a_named_embedding_follow_it(image_text, tmp_path, read_adapter):
    folder, base, engine = image_text("gemma3")
    model = load_image_text(folder)
    config = peft.LoraConfig(
        r=4,
        target_modules=r".*language_model.*q_proj",
        trainable_token_indices={"model.language_model.embed_tokens": [3, 4, 5]},
    )
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    adapter = read_adapter(tmp_path / "adapter")

    ((_, answer),) = engine.answers([placed(base, adapter)])

    expected = last_states(model.eval(), base.probes)
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


def test_a_pattern_without_end_is_refused_before_it_is_tried_on_names_as_saved(
    image_text, tmp_path, read_adapter
):
    folder, base, _ = image_text("gemma3")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", folder))
    adapter.config.values["alpha_pattern"] = {r"(?=language_model\.model)((\w|\.)+)+X": 3}
    with pytest.raises(AdapterError, match="did not finish within 5 s"):
        placed(
            base,
            adapter,
            lambda name: f"{PREFIX}language_model.{name.removeprefix(PREFIX)}",
        )


def test_what_no_text_reaches_is_left_out(tmp_path, tiny_base, base, read_adapter):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base))
    more = {
        f"{PREFIX}model.visual.blocks.0.attn.qkv.lora_A.weight": torch.ones(4, 8),
        f"{PREFIX}vision_tower.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(4, 8),
        f"{PREFIX}multi_modal_projector.linear_1.weight": torch.ones(2, 2),
        f"{PREFIX}model.unembed_tokens.lora_A.weight": torch.ones(4, 32),
        f"{PREFIX}lm_head.lora_B.weight": torch.ones(4, 4),
        f"{PREFIX}model.layers.0.mlp.w3.lora_A.weight": torch.ones(0),
    }

    found = placed(base, replace(adapter, tensors=dict(adapter.tensors) | more))

    assert found.tensors.keys() == adapter.tensors.keys()
    assert found.config == adapter.config
    with pytest.raises(AdapterError, match="no text"):
        placed(base, replace(adapter, tensors=more))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: f"_orig_mod.{name}", r"_orig_mod\., which torch.compile"),
        (lambda name: name.replace(PREFIX, f"{PREFIX}_orig_mod."), "torch.compile"),
        (lambda name: name.replace("rs.1.", "rs.1._fsdp_wrapped_module."), "FSDP"),
        (lambda name: name.replace("self_", "_checkpoint_wrapped_module.self_"), "checkpointing"),
        (lambda name: f"module.{name}", "DistributedDataParallel"),
        (lambda name: name.removeprefix(PREFIX), r"lack the prefix base_model\.model\."),
    ],
)
def test_names_that_a_wrapper_changed_are_refused_for_that(
    change, said, tmp_path, tiny_base, base, read_adapter
):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base))
    with pytest.raises(AdapterError, match=said) as caught:
        placed(base, adapter, change)
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("emptied", ["lora_", "layers.1"])
def test_empty_tensors_are_zero3s(emptied, tmp_path, tiny_base, base, read_adapter):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base))
    tensors = {
        name: torch.empty(0) if emptied in name else tensor
        for name, tensor in adapter.tensors.items()
    }
    with pytest.raises(AdapterError, match="ZeRO-3") as caught:
        placed(base, replace(adapter, tensors=tensors))
    assert caught.value.reason is Reason.CORRUPT


def test_one_rank_of_a_sharded_training_is_named(tmp_path, tiny_base, base, read_adapter):
    adapter = read_adapter(make_adapter(tmp_path / "adapter", tiny_base))
    tensors = {name: tensor[: len(tensor) // 2] for name, tensor in adapter.tensors.items()}
    with pytest.raises(AdapterError, match=r"1/2 of its rows.*FSDP") as caught:
        placed(base, replace(adapter, tensors=tensors))
    assert caught.value.reason is Reason.CORRUPT


def mlx(**values) -> AdapterConfig:
    parameters = {"rank": 3, "scale": 20.0, "dropout": 0.0}
    content = {"fine_tune_type": "lora", "model": "org/base", "lora_parameters": parameters}
    return AdapterConfig("MLX", content | values)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_mlx_adapter_is_added_to_the_weights_as_mlx_does(kind, base):
    torch.manual_seed(0)
    model, tensors = base.read_again(), {}
    with torch.no_grad():
        for layer, name in enumerate(["q_proj", "v_proj"]):
            linear = getattr(model.model.layers[layer].self_attn, name)
            out, into = linear.weight.shape
            a, b = 0.1 * torch.randn(into, 3), 0.1 * torch.randn(3, out)
            weight = linear.weight + 20.0 * (a @ b).T
            own = f"model.layers.{layer}.self_attn.{name}"
            tensors |= {f"{own}.lora_a": a, f"{own}.lora_b": b}
            if kind == "dora":
                m = torch.rand(out) + 1
                weight = weight * (m / torch.linalg.norm(weight, dim=1))[:, None]
                tensors[f"{own}.m"] = m
            linear.weight.copy_(weight)
        a, b = 0.1 * torch.randn(model.config.vocab_size, 3), 0.1 * torch.randn(3, 32)
        if kind == "lora":
            model.model.embed_tokens.weight.add_(20.0 * a @ b)
            tensors |= {"model.embed_tokens.lora_a": a, "model.embed_tokens.lora_b": b}
        expected = torch.stack([model.model(probe)[0][0, -1] for probe in base.probes]).numpy()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    placement = AdapterNames(base).place(mlx(fine_tune_type=kind), shapes)
    key = AdapterKey("org/mlx", "", "0" * 40)
    adapter = PeftAdapter(key, placement.config, placement.tensors(tensors), weight_bytes=0)

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, answer),) = engine.answers([adapter])

    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (mlx(fine_tune_type="full"), "fine_tune_type='full'"),
        (mlx(lora_parameters={"rank": 3, "alpha": 6, "scale": 10.0}), "no scale alone"),
    ],
)
def test_other_things_that_mlx_saves_are_named(config, said, base):
    with pytest.raises(AdapterError, match=said) as caught:
        AdapterNames(base).place(config, {"model.layers.0.self_attn.q_proj.lora_a": (32, 3)})
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
