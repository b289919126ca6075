"""Adapters of experts under the names that each expert had before transformers 5.

The right value is that of the base with scale · B A added to each expert's matrices by hand.
"""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import DEEPSEEK, load_model, make_adapter, make_base
from safetensors.torch import save_file

from hubdelta.indexer.adapters.adapter_names import AdapterNames
from hubdelta.indexer.adapters.compatibility import check_fit
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, Reason

RANK, EXPERTS = 2, 4

FAMILIES = {
    # sizes, then what an expert was called, and its gate, down and up projections
    "mixtral": (
        {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
        "block_sparse_moe.experts",
        ("w1", "w2", "w3"),
    ),
    "qwen3_moe": (
        {
            "num_experts": EXPERTS,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "head_dim": 8,
        },
        "mlp.experts",
        ("gate_proj", "down_proj", "up_proj"),
    ),
    "deepseek_v3": (
        DEEPSEEK | {"n_routed_experts": EXPERTS, "q_lora_rank": None},
        "mlp.experts",
        ("gate_proj", "down_proj", "up_proj"),
    ),
}


def adapter_of_experts(folder: Path, base: Path, path: str, names: tuple[str, ...]):
    """An adapter under the old names, and the base with the same change in its weights."""
    make_adapter(folder, base, r=RANK, lora_alpha=2 * RANK, target_modules=["o_proj"])
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_modules": list(names)}))
    model, tensors = load_model(base).eval(), {}
    torch.manual_seed(3)
    for number, layer in enumerate(model.model.layers):
        experts = getattr(layer.mlp, "experts", None)
        if experts is None:  # DeepSeek's first layers have none
            continue
        inner = experts.down_proj.shape[-1]
        for expert in range(EXPERTS):
            gate_up, down = experts.gate_up_proj.data[expert], experts.down_proj.data[expert]
            for name, weight in zip(names, (gate_up[:inner], down, gate_up[inner:]), strict=True):
                a = 0.1 * torch.randn(RANK, weight.shape[1])
                b = 0.1 * torch.randn(weight.shape[0], RANK)
                weight += 2 * b @ a
                place = f"base_model.model.model.layers.{number}.{path}.{expert}.{name}"
                tensors[f"{place}.lora_A.weight"], tensors[f"{place}.lora_B.weight"] = a, b
    save_file(tensors, folder / "adapter_model.safetensors")
    return model, tensors


@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_adapter_of_single_experts_is_what_their_merged_weights_give(
    model_type, tmp_path, read_adapter
):
    sizes, path, names = FAMILIES[model_type]
    folder = make_base(tmp_path / "base", model_type=model_type, **sizes)
    base = BaseModel.load(folder, ALPACA_5)
    model, _ = adapter_of_experts(tmp_path / "adapter", folder, path, names)

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, answer),) = engine.answers([read_adapter(tmp_path / "adapter")])

    with torch.no_grad():
        states = [model.model(input_ids=probe).last_hidden_state[0, -1] for probe in base.probes]
    expected = torch.stack(states).numpy()
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - answer.baseline.activations).max() > 0.1


def test_dense_layers_beside_experts_are_refused_not_left_out(tmp_path, read_adapter):
    """PEFT finds the experts under their new names and then no dense layer of DeepSeek's."""
    sizes, path, names = FAMILIES["deepseek_v3"]
    folder = make_base(tmp_path / "base", model_type="deepseek_v3", **sizes)
    base = BaseModel.load(folder, ALPACA_5)
    _, tensors = adapter_of_experts(tmp_path / "adapter", folder, path, names)
    dense = "base_model.model.model.layers.0.mlp.gate_proj"
    tensors[f"{dense}.lora_A.weight"] = torch.randn(RANK, 32)
    tensors[f"{dense}.lora_B.weight"] = torch.randn(64, RANK)
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, error),) = engine.answers([read_adapter(tmp_path / "adapter")])

    assert isinstance(error, AdapterError)
    assert error.reason is Reason.BASE_MISMATCH
    assert dense in str(error)


@pytest.mark.parametrize("layers", [[], ["q_proj"]], ids=["alone", "beside a layer"])
@pytest.mark.parametrize(
    "parameter", ["mlp.gate.weight", "mlp.experts.down_proj", "embed_tokens.weight"]
)
def test_a_parameter_is_adapted_whatever_module_holds_it(parameter, layers, tmp_path, read_adapter):
    sizes, _, _ = FAMILIES["mixtral"]
    folder = make_base(tmp_path / "base", model_type="mixtral", **sizes)
    base = BaseModel.load(folder, ALPACA_5)
    config = peft.LoraConfig(r=RANK, target_modules=layers, target_parameters=[parameter])
    adapter = read_adapter(make_adapter(tmp_path / "adapter", folder, config=config))
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
    placement = AdapterNames(base).place(adapter.config, shapes)
    model = peft.PeftModel.from_pretrained(load_model(folder), tmp_path / "adapter").eval()

    check_fit(placement.shapes(shapes), base.shapes, placement.parameters)
    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, answer),) = engine.answers([adapter])

    with torch.no_grad():
        states = [
            model(input_ids=probe, output_hidden_states=True).hidden_states[-1][0, -1]
            for probe in base.probes
        ]
    np.testing.assert_allclose(answer.activations, torch.stack(states).numpy(), atol=1e-5)
    assert np.abs(answer.activations - answer.baseline.activations).max() > 1e-3

    wider = {name: (shape[0] + 1, shape[1] + 1) for name, shape in shapes.items()}
    with pytest.raises(AdapterError, match="trained on another base"):
        check_fit(wider, base.shapes, placement.parameters)
