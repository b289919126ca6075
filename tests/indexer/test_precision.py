"""Narrower arithmetic: how near it is, what is done again in fp32, and what is refused.

All of it on a CPU, which computes fp16 and bf16 slowly but rounds as a GPU does.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families import make_adapter, make_base
from limited_device import LimitedModel

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.routing import load_engine, make_engine
from hubdelta.indexer.engines.stacked import baselines
from hubdelta.indexer.engines.stacked.accuracy import Trial, Trials
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.model import StackedModel
from hubdelta.indexer.engines.stacked.precision import held
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import Reason, UsageError

HALF = torch.float16
LARGEST_HALF = 65504.0


@pytest.fixture
def adapter(tmp_path, tiny_base, read_adapter):
    return read_adapter(make_adapter(tmp_path / "adapter", tiny_base))


@pytest.fixture
def on_mlp(tmp_path, tiny_base, read_adapter):
    """An adapter of a layer whose output goes straight into the residual stream."""
    return read_adapter(make_adapter(tmp_path / "mlp", tiny_base, target_modules=["down_proj"]))


def scaled(adapter, factor):
    """An adapter with another B, and so with a delta that is about so many times as large."""
    tensors = {
        name: tensor * factor if "lora_B" in name else tensor
        for name, tensor in adapter.tensors.items()
    }
    return replace(adapter, tensors=tensors)


def answers(engine, *adapters):
    """An answer, or an error, for each adapter, in their order."""
    by_place = dict(engine.answers(adapters))
    return [by_place[place] for place in range(len(adapters))]


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def base_with(folder, module, factor):
    """A base of which one layer has weights that are so many times as large."""
    base = BaseModel.load(make_base(folder), ALPACA_5)
    base.model.get_submodule(module).weight.data.mul_(factor)
    return base


# What comes out


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.9999), ("bf16", 0.99)])
def test_a_narrower_type_is_near_fp32_and_says_so(precision, least, base, adapter):
    large = scaled(adapter, 4)
    (exact,) = answers(StackedEngine(base, precision="fp32"), large)

    (answer,) = answers(StackedEngine(base, precision=precision), large)

    assert answer.baseline.precision == precision
    assert exact.baseline.precision == "fp32"
    assert least < cosine(answer.delta, exact.delta) < 1 - 1e-12


def test_fp16_is_nearer_than_bf16(base, adapter):
    (exact,) = answers(StackedEngine(base), adapter)
    off = {
        precision: 1
        - cosine(answers(StackedEngine(base, precision=precision), adapter)[0].delta, exact.delta)
        for precision in ("fp16", "bf16")
    }

    assert 4 * off["fp16"] < off["bf16"]


@pytest.mark.parametrize(
    ("times", "cosine", "seconds", "chosen"),
    [
        (9, 0.99995, 0.1, "bf16"),
        (9, 0.99980, 0.1, "fp32"),  # not near enough
        (9, 0.99995, 0.9, "fp32"),  # no faster, all in all
        (1, 0.99995, 0.1, "fp32"),  # a CPU that only emulates the type
    ],
)
def test_auto_takes_what_is_near_enough_and_seen_to_be_faster(
    times, cosine, seconds, chosen, base, adapter, monkeypatch
):
    """Which it is depends on the machine, so the measurements are given here."""

    class Measured(Trials):
        exact_seconds = 1.0

        def __init__(self, model):
            pass

        def of(self, precision):
            return Trial(cosine, seconds)

    monkeypatch.setattr(baselines, "LARGE", 0)
    monkeypatch.setattr(baselines, "Trials", Measured)
    monkeypatch.setattr(baselines, "multiplies_faster", lambda dtype, least: times >= least)
    (answer,) = answers(StackedEngine(base, precision="auto"), adapter)
    assert answer.baseline.precision == chosen


@pytest.mark.parametrize(("adapters", "tried"), [(None, 1), (1, 0), (31, 0), (32, 1), (5000, 1)])
def test_few_adapters_are_not_worth_a_trial(adapters, tried, tiny_base, monkeypatch):
    asked = []
    monkeypatch.setattr(baselines, "LARGE", 0)
    monkeypatch.setattr(
        baselines, "multiplies_faster", lambda dtype, least: asked.append(dtype) or False
    )
    load_engine(tiny_base, ALPACA_5, IndexSettings(device="cpu"), adapters=adapters)
    assert len(asked) == tried


@pytest.mark.parametrize("most", [1, 3])
def test_a_trial_that_does_not_fit_in_memory_is_run_in_parts(most, base):
    whole = Trials(StackedModel(base))
    model = LimitedModel(base)
    model.most = most

    parts = Trials(model)

    assert parts.of("fp16").cosine == pytest.approx(whole.of("fp16").cosine, abs=1e-5)
    assert model.refused == [5, 5]
    assert model.tried[-1] == 1


def test_a_baseline_says_how_near_to_fp32_deltas_in_its_precision_are(base, adapter):
    narrow = StackedEngine(base, precision="bf16")
    (answer,) = answers(narrow, adapter)
    assert answer.baseline.cosine == pytest.approx(Trials(narrow.model).of("bf16").cosine, abs=1e-6)
    (exact,) = answers(StackedEngine(base), adapter)
    assert exact.baseline.cosine is None


def test_trials_say_how_near_deltas_are_to_fp32(base):
    trials = Trials(StackedEngine(base).model)
    fp16, bf16 = trials.of("fp16"), trials.of("bf16")
    assert 0.9999 < bf16.cosine < 1 - 1e-7
    assert bf16.cosine < fp16.cosine
    assert trials.of("fp32").cosine > 1 - 1e-9


# What overflows


def test_what_overflows_is_done_again_in_fp32_alone(base, adapter, on_mlp):
    overflowing = scaled(on_mlp, 1e6)
    exact = answers(StackedEngine(base, max_batch=1), adapter, overflowing, on_mlp)
    assert isinstance(exact[1], Answer)

    results = answers(StackedEngine(base, precision="fp16"), adapter, overflowing, on_mlp)

    assert [answer.baseline.precision for answer in results] == ["fp16", "fp32", "fp16"]
    assert all(np.isfinite(answer.activations).all() for answer in results)
    np.testing.assert_allclose(results[1].activations, exact[1].activations, rtol=1e-4, atol=1e-5)
    assert cosine(results[0].delta, exact[0].delta) > 0.9999
    assert cosine(results[2].delta, exact[2].delta) > 0.9999
    for answer in results:
        assert answer.baseline.activations.shape == answer.activations.shape
        assert answer.signal > 1


def test_factors_that_overflow_are_no_loss(base, adapter):
    """B alone is beyond fp16, the product with a small A is not."""
    tensors = {
        name: tensor * (1e7 if "lora_B" in name else 1e-7)
        for name, tensor in adapter.tensors.items()
    }
    lopsided = replace(adapter, tensors=tensors)
    (exact,) = answers(StackedEngine(base), adapter)

    (answer,) = answers(StackedEngine(base, precision="fp16"), lopsided)

    assert cosine(answer.delta, exact.delta) > 0.999


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32", "auto"])
def test_what_overflows_in_fp32_too_is_an_error(precision, base, adapter, on_mlp):
    engine = StackedEngine(base, precision=precision)
    beyond = {name: tensor * 1e25 for name, tensor in on_mlp.tensors.items()}

    first, error, last = answers(engine, adapter, replace(on_mlp, tensors=beyond), adapter)

    assert error.reason is Reason.NOT_FINITE
    assert "fp32" in str(error)
    assert isinstance(first, Answer)
    np.testing.assert_allclose(first.activations, last.activations, rtol=1e-2, atol=1e-2)


# What is weak


@pytest.mark.parametrize(("precision", "least"), [("fp16", 0.99999), ("bf16", 0.9999)])
def test_a_weak_delta_is_as_near_to_fp32_as_a_strong_one(precision, least, base, adapter):
    """Down to where the rounding of fp32 itself turns it."""
    sizes = [scaled(adapter, 10.0**-power) for power in range(4)]
    exact = answers(StackedEngine(base), *sizes)
    norm = np.linalg.norm(exact[0].baseline.activations.mean(axis=0))
    assert np.linalg.norm(exact[-1].delta) < 1e-3 * norm

    for given, expected in zip(
        answers(StackedEngine(base, precision=precision), *sizes), exact, strict=True
    ):
        assert given.baseline.precision == precision
        assert cosine(given.delta, expected.delta) > least


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_base_answers_in_every_precision_as_in_fp32(precision, base):
    exact = StackedEngine(base).baseline("fp32")
    given = StackedEngine(base, precision=precision).baseline(precision)
    np.testing.assert_allclose(given.activations, exact.activations, rtol=1e-5, atol=1e-6)
    assert given.noise_floor < 3 * exact.noise_floor


# What is refused


@pytest.mark.parametrize(
    ("precision", "said"), [("fp8", "fp8"), ("", "precision"), ("FP16", "FP16"), ("tf32", "tf32")]
)
def test_a_precision_that_is_not_here_is_refused(precision, said, base):
    with pytest.raises(UsageError, match=said):
        StackedEngine(base, precision=precision)


def test_settings_refuse_an_unknown_precision():
    with pytest.raises(UsageError, match="fp8"):
        IndexSettings(precision="fp8")


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16"])
def test_the_reference_engine_is_fp32(precision, base):
    with pytest.raises(UsageError, match="fp32"):
        make_engine(base, lambda: base, IndexSettings(engine="reference", precision=precision))


def test_a_base_whose_weights_overflow_is_refused_in_fp16_alone(tmp_path):
    base = base_with(tmp_path, "model.layers.0.self_attn.q_proj", 1e6)

    with pytest.raises(UsageError, match="overflows in fp16"):
        StackedEngine(base, precision="fp16")
    for precision in ("bf16", "fp32", "auto"):
        StackedEngine(base, precision=precision)


def test_a_base_whose_activations_are_beyond_fp16_is_computed_in_it(tmp_path, read_adapter):
    """They stay in fp32: only what an adapter changes is multiplied in the narrow type."""
    base = base_with(tmp_path / "base", "model.layers.0.mlp.down_proj", 3e4)
    lora = read_adapter(
        make_adapter(tmp_path / "lora", base.folder, target_modules=["q_proj", "v_proj"])
    )
    (exact,) = answers(StackedEngine(base), lora)
    (answer,) = answers(StackedEngine(base, precision="fp16"), lora)
    assert cosine(answer.delta, exact.delta) > 0.999


# What is held


def test_bf16_weights_become_fp16_to_the_bit():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)

    there = held(weight, torch.device("cpu"))

    assert there.dtype == HALF
    assert torch.equal(there.double(), weight.double())


@pytest.mark.parametrize(
    "weight",
    [
        torch.tensor([[1.0, 1e5]], dtype=torch.bfloat16),  # overflows
        torch.tensor([[1e-9, 2e-9]], dtype=torch.bfloat16),  # underflows
        torch.tensor([[1.0, 1 + 2.0**-12]]),  # has more digits
        torch.tensor([[1.0, 2 * LARGEST_HALF]]),
        torch.tensor([[1e-9, 2e-9]]),
        torch.tensor([[1.0, torch.inf]]),
        torch.tensor([[1.0, torch.nan]]),
    ],
    ids=["overflow", "underflow", "fp32 digits", "fp32 overflow", "fp32 underflow", "inf", "nan"],
)
def test_what_fp16_does_not_hold_stays_as_it_is_stored(weight):
    there = held(weight, torch.device("cpu"))

    assert there.dtype == weight.dtype
    assert torch.equal(there.nan_to_num(), weight.nan_to_num())


def test_what_underflows_beside_large_weights_is_below_fp32s_rounding():
    """Every large matrix holds a few numbers that fp16 does not; no fp32 product notices."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=random).to(torch.bfloat16)
    weight[::7, ::5] = 1e-9
    x = torch.randn(64, generator=random)

    there = held(weight, torch.device("cpu"))

    assert there.dtype == HALF
    exact = weight.double() @ x.double()
    assert torch.linalg.vector_norm(there.double() @ x.double() - exact) <= 1e-7 * exact.norm()


def test_matrices_of_small_weights_are_held_in_fp16_too():
    """Those that end in the residual stream; fp32 products of so many terms round more coarsely."""
    random = torch.Generator().manual_seed(0)
    weight = (0.0025 * torch.randn(256, 4096, generator=random)).to(torch.bfloat16)
    x = torch.randn(4096, generator=random)

    there = held(weight, torch.device("cpu"))

    assert there.dtype == HALF
    assert not torch.equal(there.double(), weight.double())
    exact = weight.double() @ x.double()
    lost = torch.linalg.vector_norm(there.double() @ x.double() - exact)
    assert lost <= 4096**0.5 * 2**-24 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_what_fp16_holds_is_held_so_whatever_the_file_says(dtype):
    weight = torch.tensor([[0.5, -0.0, LARGEST_HALF, 2.0**-24]], dtype=dtype)

    there = held(weight, torch.device("cpu"))

    assert there.dtype == HALF
    assert torch.equal(there.double(), weight.double())
