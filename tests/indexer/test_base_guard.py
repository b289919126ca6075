"""Whatever an adapter's method does to the base, the next adapter meets the base as it was."""

import numpy as np
import peft
import pytest
import torch
from families import load_model, make_adapter

from hubdelta.indexer.engines.base_guard import BaseGuard
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.settings import IndexSettings

PROJECTION = "model.layers.0.self_attn.q_proj"


def write_in_place(model):
    model.get_submodule(PROJECTION).weight.data.mul_(2)


def write_one_bit(model):
    bits = model.get_submodule(PROJECTION).weight.data.view(torch.int32)
    bits[3, 5] ^= 1


def swap_columns(model):
    weight = model.get_submodule(PROJECTION).weight.data
    weight.copy_(weight.flip(1))


def swap_rows(model):
    weight = model.get_submodule(PROJECTION).weight.data
    weight.copy_(weight.flip(0))


def exchange_data(model):
    parameter = model.get_submodule(PROJECTION).weight
    parameter.data = torch.zeros_like(parameter)


def exchange_type(model):
    model.to(torch.bfloat16)


def write_a_buffer(model):
    next(model.buffers()).mul_(3)


def replace_a_layer(model):
    model.set_submodule(PROJECTION, torch.nn.Identity())


def hook_a_layer(model):
    model.get_submodule(PROJECTION).register_forward_hook(lambda *_: _[-1] * 0)


def change_the_config(model):
    model.config.num_hidden_layers = 1
    del model.model.layers[1]


def train_it(model):
    model.requires_grad_(True)
    for parameter in model.parameters():
        parameter.requires_grad = True


CHANGES = [
    write_in_place,
    write_one_bit,
    swap_columns,
    swap_rows,
    exchange_data,
    exchange_type,
    write_a_buffer,
    replace_a_layer,
    hook_a_layer,
    change_the_config,
    train_it,
]


@torch.no_grad()
def answer_of(model, probes):
    return [model(input_ids=probe, use_cache=False).logits for probe in probes]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("fails", [False, True], ids=["", "and fails"])
def test_the_base_comes_back_as_it_was_lent(change, fails, base):
    model = base.model
    model.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    answer, config = answer_of(model, base.probes), model.config.to_dict()
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    guard = BaseGuard(model, base.read_again)
    try:
        with guard.lent():
            change(model)
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        assert fails

    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert [parameter.data_ptr() for parameter in model.parameters()] == addresses
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.to_dict() == config
    for now, then in zip(answer_of(model, base.probes), answer, strict=True):
        assert torch.equal(now, then)


def test_a_write_that_was_announced_costs_no_reading(base):
    read = []
    guard = BaseGuard(base.model, lambda: read.append(1) or base.read_again())
    with guard.lent([f"{PROJECTION}.weight"]):
        write_in_place(base.model)
    assert not read
    assert torch.equal(
        base.model.get_submodule(PROJECTION).weight,
        load_model(base.folder).get_submodule(PROJECTION).weight,
    )


def test_a_base_that_cannot_be_read_again_is_no_longer_used(base):
    guard = BaseGuard(base.model, lambda: base.model)
    with pytest.raises(RuntimeError, match=rf"{PROJECTION}.weight was changed"), guard.lent():
        write_in_place(base.model)


@pytest.fixture
def adapters(tmp_path, tiny_base, read_adapter):
    """A KaSA adapter, which rewrites the base's weights in PEFT, and one that comes after it."""
    configs = {
        "kasa": peft.LoraConfig(target_modules=["q_proj"], kasa_config=peft.KasaConfig()),
        "after": peft.LoraConfig(target_modules=["q_proj", "v_proj"]),
    }
    return {
        name: make_adapter(tmp_path / name, tiny_base, config=config)
        for name, config in configs.items()
    }


def alone(folder, base):
    """PEFT's own hidden states of an adapter on a base of its own, [probes, hidden]."""
    model = peft.PeftModel.from_pretrained(load_model(base.folder), folder).eval()
    with torch.no_grad():
        states = [model.base_model.model.model(input_ids=probe) for probe in base.probes]
    return np.stack([state.last_hidden_state[0, -1].numpy() for state in states])


def test_kasa_is_embedded_as_by_peft_and_changes_nothing_for_the_next(adapters, base, read_adapter):
    batch = [read_adapter(adapters[name]) for name in ("after", "kasa", "after")]
    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    found = dict(engine.answers(batch))
    for place, name in enumerate(("after", "kasa", "after")):
        expected = alone(adapters[name], base)
        np.testing.assert_allclose(found[place].activations, expected, rtol=1e-4, atol=1e-5)


def test_a_method_that_writes_behind_torchs_back_is_undone(
    adapters, base, read_adapter, monkeypatch
):
    """No version counter tells of a write through `.data`."""
    load = peft.set_peft_model_state_dict

    def load_and_write(model, tensors):
        model.get_base_model().model.norm.weight.data.add_(1)
        return load(model, tensors)

    engine = ReferenceEngine(base)
    with monkeypatch.context() as patch:
        patch.setattr(peft, "set_peft_model_state_dict", load_and_write)
        list(engine.answers([read_adapter(adapters["after"])]))
    ((_, answer),) = engine.answers([read_adapter(adapters["after"])])
    expected = alone(adapters["after"], base)
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)
