"""What the stacked engine takes for noise, and that company makes no more of it."""

from dataclasses import replace

import numpy as np
import peft
import pytest
import torch
from families import family, make_adapter, make_base

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import noise_floor
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5

BATCH_MATES = {
    "lora": lambda f: peft.LoraConfig(r=4, target_modules=list(f.attention)),
    "dora": lambda f: peft.LoraConfig(r=4, target_modules=list(f.attention), use_dora=True),
    "biases": lambda f: peft.LoraConfig(r=4, target_modules=list(f.attention), bias="all"),
    "ia3": lambda f: peft.IA3Config(target_modules=list(f.attention), feedforward_modules=[]),
    "norms": lambda f: peft.LNTuningConfig(target_modules=[f.norms[0]]),
}


@pytest.fixture(scope="module", params=["llama", "qwen2", "gpt2"])
def architecture(request):
    return family(request.param)


@pytest.fixture(scope="module")
def any_base(architecture, tmp_path_factory):
    """A base with or without biases; RMSNorm or LayerNorm; Linear or Conv1D."""
    folder = tmp_path_factory.mktemp("base") / str(architecture)
    make_base(folder, model_type=architecture.model_type, **architecture.config)
    return BaseModel.load(folder, ALPACA_5)


@pytest.fixture(scope="module")
def mates(tmp_path_factory, any_base, architecture, read_adapter):
    folder = tmp_path_factory.mktemp("mates")
    return {
        name: read_adapter(
            make_adapter(folder / name, any_base.folder, config=config(architecture))
        )
        for name, config in BATCH_MATES.items()
    }


@pytest.fixture
def nothing(mates):
    """An adapter that changes nothing, as it is before training."""
    tensors = {
        name: torch.zeros_like(tensor) if "lora_B" in name else tensor
        for name, tensor in mates["lora"].tensors.items()
    }
    return replace(mates["lora"], tensors=tensors)


def test_the_noise_floor_is_the_largest_delta_that_arithmetic_makes():
    alone = np.full((5, 16), 0.5, dtype=np.float32)  # of norm 2 in the mean
    near, far = alone.copy(), alone.copy()
    near[:, 0] += 0.001
    far[0, 0] += 0.03  # a fifth of it in the mean of five probes
    far[0, 1] -= 0.04

    assert noise_floor(alone, [near, far]) == pytest.approx(0.01, rel=1e-5)
    assert noise_floor(alone, [near]) == pytest.approx(0.001, rel=1e-4)
    assert noise_floor(alone, [alone]) == pytest.approx(2 * 2.0**-23)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_company_makes_of_nothing_is_below_the_noise_floor(
    precision, any_base, nothing, mates
):
    engine = StackedEngine(any_base, precision=precision)
    signals = {}
    for name, mate in mates.items():  # the plain one first, so that others come after its floor
        results = dict(engine.answers([mate, nothing, nothing, mate]))
        signals[name] = max(results[1].signal, results[2].signal)
        norm = np.linalg.norm(results[1].baseline.activations.mean(axis=0))
        assert 0 < results[1].baseline.noise_floor < 0.01 * norm
        assert results[0].signal > 5

    # Of fp32's rounding a sample sees no more than the order of magnitude.
    most = 2 if precision == "fp32" else 1
    assert {name: signal for name, signal in signals.items() if signal > most} == {}


def test_in_fp16_too_company_of_other_kinds_does_not_move_an_answer(any_base, mates):
    engine = StackedEngine(any_base, precision="fp16")
    lora = mates["lora"]
    alone = dict(engine.answers([lora, lora]))[0]

    for name in ("dora", "biases", "ia3"):
        mixed = dict(engine.answers([lora, mates[name]]))[0]
        moved = np.linalg.norm(mixed.delta - alone.delta)
        assert moved <= 2**-10 * np.linalg.norm(alone.delta), name  # fp16's rounding


def test_the_noise_floor_is_no_less_in_real_batches(any_base, nothing, mates):
    apart = StackedEngine(any_base).baseline("fp32").noise_floor
    engine = StackedEngine(any_base)

    floors = [
        answer.baseline.noise_floor
        for mate in mates.values()
        for _, answer in engine.answers([mate, nothing])
    ]

    assert min(floors) >= apart > 0
    assert floors == sorted(floors)
