"""The way of an adapter to the engine that computes it exactly."""

from dataclasses import replace
from threading import Event, Thread

import numpy as np
import peft
import pytest
import torch
from families import make_adapter, make_base
from limited_device import LimitedModel

from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.indexer.base_structure import without_weights
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import device_of, load_base, make_engine
from hubdelta.indexer.engines.stacked import engine as stacked
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason, UsageError

KINDS = {
    # what it is → (how to make it, who computes it)
    "lora": (peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]), "stacked"),
    "prompt tuning": (
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "reference",
    ),
    "dora": (peft.LoraConfig(r=2, use_dora=True, target_modules=["o_proj"]), "stacked"),
    "pissa": (
        peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"),
        "reference",
    ),
    "loha": (peft.LoHaConfig(r=2, target_modules=["q_proj"]), "stacked"),
    "prefix tuning": (
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "reference",
    ),
    "ia3": (
        peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        "stacked",
    ),
    "oft": (peft.OFTConfig(target_modules=["q_proj"], r=4, oft_block_size=0), "stacked"),
    "hra": (peft.HRAConfig(target_modules=["q_proj"], r=4), "stacked"),
    "waveft by size": (
        peft.WaveFTConfig(target_modules=["q_proj"], n_frequency=50, proportional_parameters=True),
        "reference",
    ),
    "layer norms": (peft.LNTuningConfig(target_modules=["input_layernorm"]), "stacked"),
}


class Counted:
    """The base on the device, and how often it was asked for."""

    def __init__(self, base):
        self.base, self.times = base, 0

    def __call__(self):
        self.times += 1
        return self.base


@pytest.fixture
def on_device(base):
    return Counted(base)


@pytest.fixture
def routed(base, on_device):
    return make_engine(base, on_device, IndexSettings(device="cpu", precision="fp32"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, tiny_base, read_adapter):
    folder = tmp_path_factory.mktemp("adapters")
    return [
        read_adapter(make_adapter(folder / name, tiny_base, config=config))
        for name, (config, _) in KINDS.items()
    ]


@pytest.fixture
def lora(adapters):
    return adapters[0]


def answers(engine, adapters):
    """An answer or an error for each adapter, in their order."""
    results = list(engine.answers(adapters))
    assert sorted(place for place, _ in results) == list(range(len(adapters)))
    return [answer for _, answer in sorted(results, key=lambda result: result[0])]


def test_each_is_answered_by_the_engine_that_is_exact(base, routed, adapters):
    given = answers(routed, adapters)

    for answer, expected, (name, (_, engine)) in zip(
        given, answers(ReferenceEngine(base), adapters), KINDS.items(), strict=True
    ):
        assert answer.baseline.engine == engine, name
        np.testing.assert_allclose(
            answer.activations, expected.activations, rtol=1e-4, atol=1e-5, err_msg=name
        )
    assert all(routed.can_embed(adapter) for adapter in adapters)


def test_an_answer_is_measured_against_its_own_engines_base(routed, adapters):
    baselines = {answer.baseline.engine: answer.baseline for answer in answers(routed, adapters)}

    assert baselines.keys() == {"stacked", "reference"}
    np.testing.assert_allclose(
        baselines["stacked"].activations, baselines["reference"].activations, rtol=1e-4, atol=1e-5
    )


def test_places_are_kept_in_any_order(routed, adapters):
    turned = [adapters[place] for place in (8, 3, 1, 0, 7, 2, 5, 6, 4)]
    straight = dict(zip([a.key for a in adapters], answers(routed, adapters), strict=True))

    for adapter, answer in zip(turned, answers(routed, turned), strict=True):
        np.testing.assert_allclose(
            answer.activations, straight[adapter.key].activations, rtol=1e-4, atol=1e-5
        )


def test_the_reference_engine_is_made_when_the_first_needs_it_and_once(
    routed, on_device, adapters, lora
):
    answers(routed, [])
    answers(routed, [lora, lora])
    assert on_device.times == 0

    answers(routed, adapters)
    answers(routed, adapters)

    assert on_device.times == 1


def test_a_wrong_adapter_is_not_tried_twice(routed, on_device, lora, tmp_path, read_adapter):
    """What is wrong with the adapter itself is wrong in every engine."""
    other = make_base(tmp_path / "other", hidden_size=64)
    misfit = read_adapter(make_adapter(tmp_path / "misfit", other))
    name, tensor = next(iter(lora.tensors.items()))
    endless = replace(lora, tensors=dict(lora.tensors) | {name: tensor * torch.inf})

    first, second, third = answers(routed, [misfit, lora, endless])

    assert (first.reason, third.reason) == (Reason.BASE_MISMATCH, Reason.NOT_FINITE)
    assert isinstance(second, Answer)
    assert on_device.times == 0


def test_what_breaks_the_fast_engine_has_a_second_chance(base, on_device, lora, monkeypatch):
    small = type("Small", (LimitedModel,), {"most_numbers": 2_000})
    monkeypatch.setattr(stacked, "StackedModel", small)
    routed = make_engine(base, on_device, IndexSettings(device="cpu", precision="fp32"))
    large = {name: tensor.repeat(1, 1) for name, tensor in lora.tensors.items()}
    wide = {
        name: torch.cat([tensor] * 4, dim=0 if "lora_A" in name else 1)
        for name, tensor in large.items()
    }
    values = lora.config.values | {"r": 16, "lora_alpha": 16}
    larger = replace(lora, config=AdapterConfig("LORA", values), tensors=wide)

    first, second, third = answers(routed, [lora, larger, lora])

    assert [a.baseline.engine for a in (first, second, third)] == [
        "stacked",
        "reference",
        "stacked",
    ]
    (expected,) = answers(ReferenceEngine(base), [larger])
    np.testing.assert_array_equal(second.activations, expected.activations)


def test_what_another_thread_broke_is_tried_once_more(base, lora, monkeypatch):
    """As when one thread makes modules without weights while another runs PEFT's."""
    load, times = peft.set_peft_model_state_dict, []

    def disturbed(*arguments):
        times.append(1)
        if len(times) == 1:
            raise OSError("somebody else's moment")
        return load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(peft, "set_peft_model_state_dict", disturbed)
        (answer,) = answers(ReferenceEngine(base), [lora])

    (expected,) = answers(ReferenceEngine(base), [lora])
    np.testing.assert_array_equal(answer.activations, expected.activations)
    assert len(times) == 2


def test_modules_made_elsewhere_do_not_disturb_those_that_a_method_makes_as_it_runs(
    tmp_path, read_adapter
):
    """PEFT parametrizes experts in each forward pass; accelerate exchanges what it calls for it."""
    folder = make_base(tmp_path / "base", model_type="mixtral", num_local_experts=2)
    base = BaseModel.load(folder, ALPACA_5)
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.down_proj"])
    adapter = read_adapter(make_adapter(tmp_path / "experts", folder, config=config))
    engine, stop = ReferenceEngine(base), Event()

    def build():
        while not stop.is_set():
            without_weights(base.model.config)

    builder = Thread(target=build)
    builder.start()
    try:
        found = answers(engine, [adapter] * 10)
    finally:
        stop.set()
        builder.join()

    assert not [answer for answer in found if isinstance(answer, AdapterError)]


def test_what_breaks_both_engines_is_one_error(routed, lora):
    tensors = {name: tensor.to("meta") for name, tensor in lora.tensors.items()}

    first, error, last = answers(routed, [lora, replace(lora, tensors=tensors), lora])

    assert isinstance(error, AdapterError)
    np.testing.assert_allclose(first.activations, last.activations, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"modules_to_save": [{}]},
        {"modules_to_save": [["lm_head"]]},
        {"modules_to_save": [None]},
        {"init_lora_weights": [1]},
        {"target_modules": {}},
        {"exclude_modules": [{}]},
        {"rank_pattern": {"(": 3}},
        {"rank_pattern": [1]},
        {"lora_alpha": "8"},
        {"r": "4"},
        {"bias": {}},
    ],
    ids=str,
)
def test_a_hostile_config_takes_nobody_with_it(values, routed, lora):
    hostile = replace(lora, config=AdapterConfig("LORA", lora.config.values | values))

    first, error, last = answers(routed, [lora, hostile, lora])

    assert isinstance(error, AdapterError)
    np.testing.assert_allclose(first.activations, last.activations, rtol=1e-5, atol=1e-5)


def test_a_full_finetune_is_left_to_the_streamed_engine(routed, lora):
    assert not routed.can_embed(FullFinetune(lora.key, {}, Checkpoint({}), weight_bytes=0))


def test_a_base_that_no_longer_answers_ends_the_run(routed, base, lora):
    answers(routed, [lora])
    base.model.get_submodule("model.layers.0.mlp.up_proj").weight.data.mul_(1.5)
    broken = {name: tensor.to("meta") for name, tensor in lora.tensors.items()}

    with pytest.raises(HubdeltaError, match="run again"):
        list(routed.answers([lora, replace(lora, tensors=broken)]))


# Settings


def test_the_reference_engine_alone_where_it_is_asked_for(base, on_device, lora):
    engine = make_engine(base, on_device, IndexSettings(engine="reference", device="cpu"))

    assert isinstance(engine, ReferenceEngine)
    assert on_device.times == 1
    assert [answer.baseline.engine for answer in answers(engine, [lora])] == ["reference"]


def test_the_precision_that_is_asked_for_is_used(base, on_device, lora):
    engine = make_engine(base, on_device, IndexSettings(precision="bf16", device="cpu"))

    assert [answer.baseline.precision for answer in answers(engine, [lora])] == ["bf16"]


def test_a_precision_that_this_device_lacks_is_refused(base, on_device):
    with pytest.raises(UsageError, match="tf32"):
        make_engine(base, on_device, IndexSettings(precision="tf32", device="cpu"))


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_here_is_refused(device, tiny_base):
    with pytest.raises(UsageError, match=device):
        load_base(tiny_base, ALPACA_5, IndexSettings(device=device))


def test_auto_is_a_device_that_is_here():
    assert device_of("auto") in {"cpu", "cuda"}
    assert device_of("cpu") == "cpu"


def test_a_base_is_loaded_in_fp32_on_a_cpu(tiny_base):
    for engine in ("stacked", "reference"):
        base = load_base(tiny_base, ALPACA_5, IndexSettings(engine=engine, device="cpu"))
        assert {parameter.dtype for parameter in base.model.parameters()} == {torch.float32}


def test_the_cpu_by_its_other_name_is_the_cpu():
    """Else a base would be read as stored for it, and the reference engine run in bf16."""
    assert device_of("cpu:0") == "cpu"
