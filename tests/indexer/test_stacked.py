"""How the stacked engine goes on when a pass breaks or memory ends."""

import logging
import multiprocessing
import re
import resource
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import make_adapter, make_base
from limited_device import LimitedModel

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.stacked import engine as stacked
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason
from hubdelta.schemas.keys import AdapterKey

GATE = "base_model.model.model.layers.0.mlp.gate_proj"


@pytest.fixture
def adapters():
    return [lora_on_gate(rank=4, hidden=32, intermediate=64, seed=seed) for seed in range(8)]


@pytest.fixture
def alone(base, adapters):
    """Each adapter's activations in a pass of its own, by place."""
    answers = activations(StackedEngine(base, max_batch=1), adapters)
    assert not any(isinstance(answer, AdapterError) for answer in answers.values())
    return answers


@pytest.fixture
def limited(base, monkeypatch):
    """An engine on a device in which only so many adapters fit."""

    def make(**limits):
        model = type("Limited", (LimitedModel,), limits)
        monkeypatch.setattr(stacked, "StackedModel", model)
        return StackedEngine(base)

    return make


def activations(engine, adapters):
    """Activations of each adapter, or its error, by its place."""
    results = list(engine.answers(adapters))
    assert sorted(place for place, _ in results) == list(range(len(adapters)))
    return {
        place: answer if isinstance(answer, AdapterError) else answer.activations
        for place, answer in results
    }


def assert_same(given, expected):
    assert given.keys() == expected.keys()
    for place, states in expected.items():
        assert not isinstance(given[place], AdapterError), given[place]
        np.testing.assert_allclose(given[place], states, rtol=1e-5, atol=1e-5)


def breaking(adapter):
    """One whose tensors torch will not copy: it is read like any other, and then breaks a pass."""
    tensors = {name: tensor.to("meta") for name, tensor in adapter.tensors.items()}
    return replace(adapter, tensors=tensors)


def lora_on_gate(*, rank, hidden, intermediate, seed=0):
    """LoRA on one layer of a Llama, without a file."""
    random = torch.Generator().manual_seed(seed)
    values = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["gate_proj"]}
    values["layers_to_transform"] = [0]
    tensors = {
        f"{GATE}.lora_A.weight": torch.randn(rank, hidden, generator=random),
        f"{GATE}.lora_B.weight": torch.randn(intermediate, rank, generator=random),
    }
    key = AdapterKey(f"a/{seed}", "", "0" * 40)
    return PeftAdapter(key, AdapterConfig("LORA", values), tensors, weight_bytes=0)


# Out of memory


def in_little_memory(folder):
    """Run in a process of its own, whose memory ends: errors by place, the log, and differences."""
    base = BaseModel.load(folder, ALPACA_5)
    engine = StackedEngine(base)
    sizes = {"hidden": 32, "intermediate": base.shapes["model.layers.0.mlp.gate_proj"][0]}
    adapters = [lora_on_gate(rank=4, seed=seed, **sizes) for seed in range(40)]
    too_large = lora_on_gate(rank=4_096, **sizes)
    expected = activations(StackedEngine(base, max_batch=2), adapters)
    engine.baseline("fp32")
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("hubdelta").addHandler(handler)
    logging.getLogger("hubdelta").setLevel(logging.INFO)

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 160 * 2**20, resource.RLIM_INFINITY))
    given = activations(engine, [*adapters, too_large])

    errors = {place: str(e) for place, e in given.items() if isinstance(e, AdapterError)}
    worst = max(
        float(np.abs(given[place] - states).max())
        for place, states in expected.items()
        if place not in errors
    )
    return errors, lines, worst


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is used")
def test_where_memory_really_ends_batches_shrink_and_answers_stay_right(tmp_path):
    base = make_base(tmp_path / "wide", intermediate_size=16_384)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        errors, lines, worst = process.submit(in_little_memory, base).result(timeout=120)

    assert list(errors) == [40], errors  # the one whose factors alone are larger than the rest
    assert "allocate" in errors[40]
    out_of_memory = [int(n) for n in re.findall(r"out of memory with (\d+)", "\n".join(lines))]
    assert out_of_memory[0] > 8
    assert worst < 1e-4


def test_after_an_out_of_memory_no_pass_is_tried_that_is_as_large(limited, adapters, alone):
    engine = limited(most=5)

    assert_same(activations(engine, adapters * 8), spread(alone, 8))

    refused = engine.model.refused
    assert refused
    assert all(later <= earlier // 2 + 1 for earlier, later in pairwise(refused)), refused
    engine.model.refused.clear()
    assert_same(activations(engine, adapters), alone)
    assert not engine.model.refused


def spread(by_place, times):
    """The answers to a list of adapters that is repeated."""
    return {
        place + turn * len(by_place): answer
        for turn in range(times)
        for place, answer in by_place.items()
    }


def test_batches_stay_as_large_as_fits(limited, adapters):
    engine = limited(most=5)
    activations(engine, adapters * 8)
    engine.model.tried.clear()

    activations(engine, adapters * 8)

    assert np.mean(engine.model.tried) > 1


@pytest.mark.parametrize("most", [1, 3])
def test_a_refused_pass_is_freed_before_the_next(most, limited, adapters):
    """Else a GPU is still full of the activations and stacks of the pass that did not fit."""
    engine = limited(most=most)

    activations(engine, adapters * 8)

    assert engine.model.refused
    assert engine.model.still_held == 0


def test_when_another_program_takes_the_memory_what_is_stacked_by_then_is_freed_too(
    limited, adapters, alone
):
    engine = limited()
    batch = activations(engine, adapters * 32)  # several batches, divided and stacked together
    assert len(batch) > 2 * max(engine.model.tried)
    results = engine.answers(adapters * 32)
    given = dict(next(results) for _ in range(2 * max(engine.model.tried)))

    engine.model.most = 5
    given |= dict(results)

    assert_same({place: answer.activations for place, answer in given.items()}, spread(alone, 32))
    assert engine.model.refused
    assert engine.model.still_held == 0


def test_where_only_one_adapter_fits_all_are_answered(limited, adapters, alone):
    assert_same(activations(limited(most=1), adapters), alone)


def test_an_adapter_that_does_not_fit_is_an_error_of_its_own(limited, adapters, alone):
    engine = limited(most_numbers=5_000)
    large = lora_on_gate(rank=64, hidden=32, intermediate=64)

    given = activations(engine, [*adapters[:4], large, *adapters[4:]])

    assert given[4].reason is Reason.ENGINE
    assert "memory" in str(given.pop(4))
    assert_same({place - (place > 4): states for place, states in given.items()}, alone)


# Adapters that break a pass


MADE = 4 * 2 * (32 * 32 + 32 * 64)  # bytes of the weights of q_proj and up_proj in two layers

LARGE = {
    "c3a": peft.C3AConfig(target_modules=["q_proj", "up_proj"], block_size=8),
    "loha of a large rank": peft.LoHaConfig(target_modules=["q_proj", "up_proj"], r=16),
}


@pytest.fixture(params=LARGE)
def large(request, tmp_path, tiny_base, read_adapter):
    """Five adapters of which matrices as large as the layers' weights are made."""
    return [
        read_adapter(
            make_adapter(tmp_path / str(seed), tiny_base, config=LARGE[request.param], seed=seed)
        )
        for seed in range(5)
    ]


def test_no_more_is_made_of_adapters_than_memory_holds(base, large, monkeypatch):
    alone = activations(StackedEngine(base, max_batch=1), large)
    engine = StackedEngine(base, max_batch=3)
    # A tenth of this holds one and a half: the second one is read before that is known.
    monkeypatch.setattr(stacked, "free_bytes", lambda device: 15 * MADE)

    windows = [[read.place for read in readable] for readable, _ in engine._windows(large)]

    assert windows == [[0, 1], [2, 3], [4]]
    answers = activations(engine, large)
    for place, expected in alone.items():
        np.testing.assert_allclose(answers[place], expected, rtol=0, atol=1e-5)


def test_lora_is_read_in_full_windows_whatever_the_memory(base, adapters, monkeypatch):
    """Its edits are the adapter's own tensors."""
    engine = StackedEngine(base, max_batch=3)
    monkeypatch.setattr(stacked, "free_bytes", lambda device: 10)
    windows = [[read.place for read in readable] for readable, _ in engine._windows(adapters)]
    assert windows == [[0, 1, 2], [3, 4, 5, 6, 7]]


def test_an_adapter_of_which_too_much_is_made_is_left_to_the_reference(base, large, monkeypatch):
    engine = StackedEngine(base)
    monkeypatch.setattr(stacked, "free_bytes", lambda device: 11 * MADE)
    assert engine.can_embed(large[0])
    monkeypatch.setattr(stacked, "free_bytes", lambda device: 9 * MADE)
    assert not engine.can_embed(large[0])


@pytest.mark.parametrize("broken", [[0], [7], [2, 5], [0, 1, 2, 3, 4, 5, 6, 7]], ids=str)
def test_what_breaks_a_pass_takes_nobody_with_it(broken, base, adapters, alone):
    engine = StackedEngine(base)
    mixed = [breaking(a) if place in broken else a for place, a in enumerate(adapters)]

    given = activations(engine, mixed)

    for place in broken:
        assert given.pop(place).reason is Reason.ENGINE
    assert_same(given, {place: alone[place] for place in given})
    assert_same(activations(engine, adapters), alone)


def test_what_breaks_a_pass_costs_the_others_few_passes(limited, adapters):
    engine = limited()
    activations(engine, adapters * 4)
    engine.model.tried.clear()

    activations(engine, [breaking(adapters[0]), *(adapters * 4)[1:]])

    # In halves down to the broken one, and once more the base.
    assert len(engine.model.tried) <= 2 * (np.log2(32) + 1)


@pytest.mark.parametrize("answered_before", [True, False])
def test_a_base_that_no_longer_answers_as_before_ends_the_run(answered_before, base, adapters):
    engine = StackedEngine(base)
    if answered_before:
        activations(engine, adapters)
    base.model.get_submodule("model.layers.0.mlp.up_proj").weight.data.mul_(1.5)

    with pytest.raises(HubdeltaError, match="run again"):
        list(engine.answers([adapters[0], breaking(adapters[1])]))
