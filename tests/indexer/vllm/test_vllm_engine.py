"""How the vLLM engine keeps adapters apart, goes on when one breaks, and leaves nothing behind."""

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import family, make_adapter
from safetensors.torch import load_file, save_file
from vllm_bench import MAX_LORAS, small_base

from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.routing import RoutedEngine
from hubdelta.indexer.engines.vllm.engine import VllmEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason, UsageError
from hubdelta.schemas.keys import AdapterKey

TARGETS = (["q_proj"], ["v_proj", "o_proj"], ["down_proj"], list(family("llama").linear))


@pytest.fixture
def engine(bench):
    return bench.vllm


@pytest.fixture
def adapters(bench, tmp_path, read_adapter):
    """More than a pass takes, of different ranks and targets."""
    return [
        read_adapter(
            make_adapter(
                tmp_path / str(seed),
                bench.folder,
                seed=seed,
                r=1 + seed,
                target_modules=TARGETS[seed % len(TARGETS)],
            )
        )
        for seed in range(MAX_LORAS + 2)
    ]


@pytest.fixture
def wanted(bench, adapters):
    """The reference engine's activations, by place."""
    return {place: answer.activations for place, answer in bench.reference.answers(adapters)}


def assert_right(given, wanted):
    """Answers by place are those wanted."""
    for place, states in wanted.items():
        assert isinstance(given[place], Answer), given[place]
        np.testing.assert_allclose(given[place].activations, states, atol=1e-4)


def loaded(engine):
    """Ids of the adapters that vLLM holds."""
    return engine._pooler._llm.llm_engine.list_loras()


def on_disk(engine):
    return list(Path(engine._scratch.name).iterdir())


# Adapters are kept apart


def test_answers_do_not_depend_on_order_or_company(engine, adapters, wanted):
    assert_right(dict(engine.answers(adapters)), wanted)

    backwards = dict(engine.answers(adapters[::-1]))
    assert_right({len(adapters) - 1 - place: it for place, it in backwards.items()}, wanted)
    for place, adapter in enumerate(adapters):
        assert_right({place: dict(engine.answers([adapter]))[0]}, {place: wanted[place]})


def test_no_adapter_is_served_in_anothers_place(engine, adapters, wanted):
    first, second = adapters[:2]

    for place in (0, 1, 0):
        answers = dict(engine.answers([(first, second)[place]]))
        assert_right({place: answers[0]}, {place: wanted[place]})
    # The same key twice, with other weights: as when a repository changes.
    changed = replace(second, key=first.key)
    assert_right(dict(engine.answers([first, changed])), {0: wanted[0], 1: wanted[1]})


def test_no_id_is_given_twice_in_a_process(benches, small_llama, adapters):
    seen = []
    for _ in range(2):
        engine = benches.on(small_llama).vllm
        for step in engine.steps(adapters[:2] * 2):
            requests = [engine._pooler.load(folder) for folder in step.folders.values()]
            seen += [(request.lora_int_id, request.lora_name) for request in requests]
            for request in requests:
                engine._pooler.unload(request)
            list(engine.run(step))
        benches.close()
    ids, names = zip(*seen, strict=True)

    assert len(set(ids)) == len(set(names)) == len(seen) == 8


def test_an_adapter_that_changes_nothing_is_at_the_noise_floor(engine, adapters):
    idle = {
        name: torch.zeros_like(tensor) if ".lora_B." in name else tensor
        for name, tensor in adapters[3].tensors.items()
    }
    answer = dict(engine.answers([replace(adapters[3], tensors=idle)]))[0]

    assert answer.signal <= 1


def test_nothing_is_left_in_vllm_or_on_disk(engine, adapters):
    for _ in range(3):
        list(engine.answers(adapters))

    assert loaded(engine) == set()
    assert on_disk(engine) == []


# What another engine must do


def test_what_it_does_not_take_goes_to_the_other_engine(bench, adapters, tmp_path, read_adapter):
    engine = RoutedEngine(bench.vllm, lambda: bench.reference)
    kinds = [
        peft.LoraConfig(target_modules=["q_proj"], use_dora=True),
        peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
        peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
    ]
    others = [
        read_adapter(make_adapter(tmp_path / f"other{number}", bench.folder, config=config))
        for number, config in enumerate(kinds)
    ]
    assert not any(map(bench.vllm.can_embed, others))
    answers = dict(engine.answers([*others, adapters[0]]))

    assert [answers[place].baseline.engine for place in range(4)] == [*["reference"] * 3, "vllm"]
    assert_right(answers, dict(enumerate(a.activations for a in answers_of(bench, others))))


def answers_of(bench, adapters):
    by_place = dict(bench.reference.answers(adapters))
    return [by_place[place] for place in range(len(adapters))]


def test_a_full_finetune_is_not_taken(engine):
    finetune = FullFinetune(AdapterKey("a/b", "", "0" * 40), {}, Checkpoint({}), weight_bytes=1)

    assert not engine.can_embed(finetune)


# What breaks


def test_a_damaged_adapter_has_the_error_of_the_other_engines(engine, adapters):
    tensors = dict(adapters[0].tensors)
    tensors.pop(next(iter(tensors)))
    damaged = replace(adapters[0], tensors=tensors)
    answers = dict(engine.answers([damaged, adapters[1]]))

    assert answers[0].reason is Reason.CORRUPT
    assert isinstance(answers[1], Answer)


def test_an_adapter_that_vllm_refuses_fails_alone(engine, adapters, wanted):
    step = next(engine.steps(adapters[:MAX_LORAS]))
    (step.folders[1] / "adapter_model.safetensors").write_bytes(b"no header")
    answers = dict(engine.run(step))

    assert answers[1].reason is Reason.ENGINE
    assert_right(answers, {place: wanted[place] for place in (0, 2, 3)})
    assert loaded(engine) == set()
    assert on_disk(engine) == []


def test_an_adapter_that_overflows_fails_alone(engine, adapters, wanted):
    """What it leaves in the cache of keys and values must reach nobody, then or later."""
    huge = {name: tensor * 1e30 for name, tensor in adapters[3].tensors.items()}
    company = [adapters[0], replace(adapters[3], tensors=huge), *adapters[1:3]]
    for _ in range(5):
        answers = dict(engine.answers(company))
        assert answers.pop(1).reason is Reason.NOT_FINITE
        assert_right(answers, {0: wanted[0], 2: wanted[1], 3: wanted[2]})
        assert_right(dict(engine.answers(adapters)), wanted)


def test_a_pass_that_breaks_is_run_again_in_parts(engine, adapters, wanted):
    with failing(engine, times=1):
        answers = dict(engine.answers(adapters))

    assert_right(answers, wanted)


def test_when_the_model_no_longer_works_the_run_ends(benches, engine, adapters):
    with failing(engine, times=10**9), pytest.raises(HubdeltaError, match="run again") as caught:
        list(engine.answers(adapters))

    assert not isinstance(caught.value, AdapterError)
    benches.close()
    assert not Path(engine._scratch.name).exists()


class failing:  # noqa: N801
    """While this lasts, the first passes through the model raise an error, as a lost GPU does."""

    def __init__(self, engine, times):
        self._llm, self._left, self._hooks = engine._pooler._llm, times, []

    def _fail(self, *_):
        if self._left > 0:
            self._left -= 1
            raise RuntimeError("the device is gone")

    def __enter__(self):
        hook = self._fail
        self._hooks = self._llm.apply_model(lambda model: model.register_forward_pre_hook(hook))

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


# Noise, precision, several devices


def test_the_noise_floor_is_the_noise_of_real_deltas(benches, tmp_path, read_adapter):
    """In bf16, for a base and adapters that bf16 holds exactly, all that differs is rounding."""
    stored = in_bf16(small_base(tmp_path / "llama", family("llama"), num_hidden_layers=4))
    bench = benches.on(stored, "bf16")
    adapters = [
        read_adapter(
            in_bf16(make_adapter(tmp_path / str(seed), stored, seed=seed, r=4, lora_alpha=4))
        )
        for seed in range(8)
    ]
    given, wanted = dict(bench.vllm.answers(adapters)), dict(bench.reference.answers(adapters))
    errors = [np.linalg.norm(given[place].delta - wanted[place].delta) for place in wanted]

    baseline = bench.vllm.baseline

    assert baseline.precision == "bf16"
    assert baseline.noise_floor / 3 < np.median(errors) < baseline.noise_floor * 3


def in_bf16(folder):
    """A saved model or adapter whose weights are rounded to bf16."""
    (file,) = folder.glob("*model.safetensors")
    save_file({k: v.bfloat16() for k, v in load_file(file).items()}, file, {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"precision": "fp8"}, "no precision"),
        ({"precision": "tf32"}, "tf32 needs a GPU"),
        ({"max_rank": 1024}, "no rank above 512"),
    ],
)
def test_what_does_not_exist_is_refused(options, what, benches, small_llama):
    benches.close()
    with pytest.raises(UsageError, match=re.escape(what)):
        VllmEngine(small_llama, ALPACA_5, **options)


def test_a_base_without_weights_is_told_in_a_line(benches, small_llama, tmp_path):
    benches.close()
    for file in small_llama.iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())

    with pytest.raises(HubdeltaError, match="vLLM cannot run the base"):
        VllmEngine(tmp_path, ALPACA_5)


def states_on_two(folder, adapters):
    engine = VllmEngine(folder, ALPACA_5, precision="fp32", tensor_parallel=2, max_loras=2)
    assert all(map(engine.can_embed, adapters))
    answers = dict(engine.answers(adapters))
    return {
        place: it.reason if isinstance(it, AdapterError) else it.activations
        for place, it in answers.items()
    }


def test_two_devices_that_share_each_layer_answer_the_same(small_llama, adapters, wanted):
    huge = {name: tensor * 1e30 for name, tensor in adapters[3].tensors.items()}
    company = [*adapters, replace(adapters[3], tensors=huge)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        given = process.submit(states_on_two, small_llama, company).result(timeout=300)

    assert given.pop(len(adapters)) is Reason.NOT_FINITE
    assert given.keys() == wanted.keys()
    for place, states in wanted.items():
        np.testing.assert_allclose(given[place], states, atol=1e-4)
