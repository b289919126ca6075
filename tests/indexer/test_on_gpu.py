"""The stacked engine on a GPU: narrower products, what `auto` takes, copies beside passes, memory.

A model of middle size, so that batches fill several passes, and copies and rounding are of the kind
that real bases have.
"""

import gc
import logging
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import make_adapter, make_base

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import load_engine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.precision import CLOSE_ENOUGH
from hubdelta.indexer.prefetch import one_ahead
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import Reason, UsageError
from hubdelta.schemas.keys import AdapterKey

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "r=4": lambda: lora(r=4),
    "r=16": lambda: lora(r=16),
    "attention": lambda: lora(r=16, target_modules=ALL[:4]),
    "r=64": lambda: lora(r=64),
    "DoRA": lambda: lora(r=8, use_dora=True),
    "biases": lambda: lora(r=8, lora_bias=True),
    "norms": lambda: lora(r=8, modules_to_save=["input_layernorm"]),
    "IA3": lambda: peft.IA3Config(target_modules=ALL, feedforward_modules=["down_proj"]),
    "LoKr": lambda: peft.LoKrConfig(r=8, alpha=8, target_modules=ALL),
    "LoHa": lambda: peft.LoHaConfig(r=4, alpha=4, target_modules=ALL),
}
SCALES = {"LoHa": 0.2, "LoKr": 0.06}  # they multiply more factors, and have an effect all the same
LEAST = {"fp32": 0.999999, "tf32": 0.9999, "fp16": 0.9999, "auto": 0.9999, "bf16": 0.999}
"""Precision → the least cosine of a delta to the reference's, whatever its strength."""


def lora(**settings):
    return peft.LoraConfig(**({"lora_alpha": 16, "target_modules": ALL} | settings))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of 4 layers and 256 dimensions, stored in bf16."""
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4}
    folder = make_base(tmp_path_factory.mktemp("base") / "base", **sizes)
    model = BaseModel.load(folder, ALPACA_5).model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # so that each layer adjusts the residual stream
                out_of_layer = name.endswith(("o_proj.weight", "down_proj.weight"))
                parameter.normal_(std=1.0 if "embed" in name else 0.03 if out_of_layer else 0.08)
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder):
    """The base as the engine takes it for a GPU."""
    return BaseModel.load(folder, ALPACA_5, as_stored=True)


@pytest.fixture(scope="module")
def adapters(folder, tmp_path_factory):
    """One adapter of each kind, in their order."""
    where = tmp_path_factory.mktemp("adapters")
    return [
        read(make_adapter(where / name, folder, config=make(), scale=SCALES.get(name, 0.03)))
        for name, make in KINDS.items()
    ]


@pytest.fixture(scope="module")
def expected(folder, adapters):
    """What the reference engine says of each, on a CPU."""
    results = answers(ReferenceEngine(BaseModel.load(folder, ALPACA_5)), adapters)
    assert all(isinstance(result, Answer) for result in results)
    return results


def read(folder: Path) -> PeftAdapter:
    return PeftAdapter(
        AdapterKey(folder.name, "", "0" * 40),
        AdapterConfig.read(folder / "adapter_config.json"),
        read_tensors(sorted(folder.glob("adapter_model*"))),
        weight_bytes=0,
    )


def answers(engine, adapters):
    """An answer, or an error, for each adapter, in their order."""
    by_place = dict(engine.answers(adapters))
    return [by_place[place] for place in range(len(adapters))]


def in_two_threads(engine, adapters):
    """The same, as the pipeline has them: the next batch is stacked while one runs."""
    by_place = {}
    with closing(one_ahead(engine.steps(adapters))) as steps:
        for step in steps:
            by_place |= dict(engine.run(step))
    return [by_place[place] for place in range(len(adapters))]


def scaled(adapter, factor):
    """An adapter with another B, and so with a delta that is about so many times as large."""
    tensors = {
        name: tensor * factor if "lora_B" in name else tensor
        for name, tensor in adapter.tensors.items()
    }
    return replace(adapter, tensors=tensors)


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def assert_same(given, expected, least):
    """Nothing of another adapter: in other company cuBLAS may choose another order of sums."""
    for answer, other in zip(given, expected, strict=True):
        assert isinstance(answer, Answer), answer
        assert cosine(answer.delta, other.delta) >= least
        norm = np.linalg.norm(other.delta)
        assert abs(np.linalg.norm(answer.delta) - norm) <= 0.01 * norm


# What comes out


@pytest.mark.parametrize("precision", LEAST)
def test_every_precision_is_as_near_to_the_reference_as_is_said(
    precision, base, adapters, expected
):
    engine = StackedEngine(base, device="cuda", precision=precision)

    cosines = {}
    for kind, given, right in zip(KINDS, answers(engine, adapters), expected, strict=True):
        assert isinstance(given, Answer), (kind, given)
        cosines[kind] = cosine(given.delta, right.delta)
        if precision != "auto":
            assert given.baseline.precision == precision

    print(precision, cosines)
    assert {kind: c for kind, c in cosines.items() if not c >= LEAST[precision]} == {}


def test_the_reference_engine_answers_on_a_gpu_as_on_a_cpu(folder, adapters, expected):
    engine = ReferenceEngine(BaseModel.load(folder, ALPACA_5, device="cuda"))

    for given, right in zip(answers(engine, adapters), expected, strict=True):
        assert cosine(given.delta, right.delta) > LEAST["fp32"]


def test_auto_takes_fp16_for_weak_deltas_too(base, adapters, expected):
    engine = StackedEngine(base, device="cuda", precision="auto")
    faint = scaled(adapters[1], 1e-3)

    first, second, nothing = answers(engine, [adapters[1], faint, scaled(adapters[1], 0)])

    assert {one.baseline.precision for one in (first, second, nothing)} == {"fp16"}
    assert cosine(first.delta, expected[1].delta) >= CLOSE_ENOUGH
    (exact,) = answers(StackedEngine(base, device="cuda", precision="fp32"), [faint])
    assert cosine(second.delta, exact.delta) >= CLOSE_ENOUGH
    assert nothing.signal <= 2


def test_bf16_weights_are_held_as_fp16_and_the_rest_in_fp32(base):
    model = StackedEngine(base, device="cuda").model

    assert {dense.layer.weight.dtype for dense in model._dense()} == {torch.float16}
    assert {p.dtype for name, p in model._inner.named_parameters() if "norm" in name} == {
        torch.float32
    }
    assert all(parameter.is_cuda for parameter in model._inner.parameters())
    assert {parameter.dtype for parameter in base.model.parameters()} == {torch.bfloat16}
    assert not any(parameter.is_cuda for parameter in base.model.parameters())


def test_a_base_that_overflows_in_fp16_gets_another_precision(folder, adapters):
    base = BaseModel.load(folder, ALPACA_5, as_stored=True)
    base.model.get_submodule("model.layers.0.mlp.down_proj").weight.data.mul_(1e5)

    with pytest.raises(UsageError, match="overflows in fp16"):
        StackedEngine(base, device="cuda", precision="fp16")
    (answer,) = answers(StackedEngine(base, device="cuda", precision="auto"), adapters[:1])

    assert answer.baseline.precision != "fp16"
    assert np.isfinite(answer.activations).all()


# Copies beside passes


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_stacking_beside_a_pass_changes_no_answer(precision, base, adapters):
    """Other adapters each time, so that what is copied too early or freed too soon shows itself."""
    engine = StackedEngine(base, device="cuda", precision=precision, max_batch=24)
    many = [
        replace(scaled(adapters[place % 7], 1 + place / 400), key=AdapterKey(str(place), "", ""))
        for place in range(400)
    ]
    # Each batch alone, with the device at rest before and after.
    one_by_one = {}
    for step in engine.steps(many):
        torch.cuda.synchronize()
        one_by_one |= dict(engine.run(step))
        torch.cuda.synchronize()

    for _ in range(3):
        given = in_two_threads(engine, many)
        assert_same(given, [one_by_one[place] for place in range(400)], LEAST[precision])


def test_the_engine_that_an_index_run_takes_is_on_the_gpu(folder, adapters, expected):
    engine = load_engine(folder, ALPACA_5, IndexSettings())
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    tuned = read(make_adapter(folder.parent / "prompt", folder, config=prompt, scale=0.5))

    *results, last = in_two_threads(engine, [*adapters, tuned])

    assert isinstance(last, Answer), last
    assert last.baseline.engine == "reference"
    for given, right in zip(results, expected, strict=True):
        assert given.baseline.engine == "stacked"
        assert cosine(given.delta, right.delta) > LEAST["auto"]


# Memory


@pytest.fixture
def little_memory(base):
    """Leaves torch so many megabytes beside what it holds."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory

    def leave(megabytes):
        gc.collect()
        torch.cuda.empty_cache()
        most = torch.cuda.memory_reserved() + megabytes * 2**20
        torch.cuda.set_per_process_memory_fraction(most / total)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_where_a_gpus_memory_ends_batches_shrink_and_answers_stay_right(
    precision, base, adapters, little_memory, caplog
):
    caplog.set_level(logging.INFO, logger="hubdelta")
    many = [scaled(adapters[place % 7], 1 + place / 100) for place in range(96)]
    right = answers(StackedEngine(base, device="cuda", precision=precision, max_batch=4), many)
    engine = StackedEngine(base, device="cuda", precision=precision)
    in_two_threads(engine, many)  # cuBLAS takes a workspace for each thread and stream
    assert "out of memory" not in caplog.text

    little_memory(32)
    given = in_two_threads(engine, many)

    refused = [int(n) for n in re.findall(r"out of memory with (\d+)", caplog.text)]
    assert refused
    assert_same(given, right, LEAST[precision])


def test_an_adapter_for_which_there_is_no_room_fails_alone(base, adapters, little_memory):
    engine = StackedEngine(base, device="cuda", precision="fp32")
    rank = 16_384
    values = {"peft_type": "LORA", "r": rank, "lora_alpha": 1, "target_modules": ["gate_proj"]}
    name = "base_model.model.model.layers.{}.mlp.gate_proj.lora_{}.weight"
    tensors = {name.format(layer, "A"): torch.randn(rank, 256) for layer in range(4)}
    tensors |= {name.format(layer, "B"): torch.randn(704, rank) for layer in range(4)}
    large = PeftAdapter(AdapterKey("a/large", "", ""), AdapterConfig("LORA", values), tensors, 0)
    right = answers(engine, adapters)

    little_memory(64)
    *given, error = in_two_threads(engine, [*adapters, large])

    assert error.reason is Reason.ENGINE
    assert "memory" in str(error)
    assert_same(given, right, LEAST["fp32"])


def test_after_all_is_answered_no_stacks_are_left_on_the_gpu(base, adapters):
    engine = StackedEngine(base, device="cuda")
    in_two_threads(engine, adapters * 8)
    gc.collect()
    before = torch.cuda.memory_allocated()

    in_two_threads(engine, adapters * 8)
    gc.collect()

    assert torch.cuda.memory_allocated() <= before + 2**20
