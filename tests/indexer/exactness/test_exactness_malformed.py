"""Wrong, missing and extra tensors: an error that names one, never a silently smaller effect."""

import json
import shutil
from dataclasses import replace
from itertools import cycle

import pytest
import torch
from adapter_kinds import KINDS, kind_named
from families import family, make_adapter
from made_by_peft import read_adapter, relative_error

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.schemas.errors import AdapterError, Reason

LLAMA = family("llama")

Q_PROJ = "base_model.model.model.layers.1.self_attn.q_proj"
A, B = f"{Q_PROJ}.lora_A.weight", f"{Q_PROJ}.lora_B.weight"


def with_tensors(adapter, tensors):
    return replace(adapter, tensors=dict(adapter.tensors) | tensors)


def without(adapter, *names):
    return replace(adapter, tensors={n: t for n, t in adapter.tensors.items() if n not in names})


def renamed(adapter, change):
    return replace(adapter, tensors={change(n): t for n, t in adapter.tensors.items()})


def with_config(adapter, **values):
    values = adapter.config.values | values
    return replace(adapter, config=AdapterConfig(adapter.config.peft_type, values))


BROKEN = {
    # what it is → (how it is made from a good one of rank 4, which tensors its error may name)
    "prefix left out": (
        lambda a: renamed(a, lambda name: name.removeprefix("base_model.model.")),
        "model.layers.",
    ),
    "prefix twice": (lambda a: renamed(a, lambda name: "base_model.model." + name), "base_model."),
    "other layer names": (
        lambda a: renamed(a, lambda name: name.replace("layers", "blocks")),
        "base_model.model.model.",
    ),
    "more layers than the base": (
        lambda a: renamed(a, lambda name: name.replace("layers.1.", "layers.2.")),
        "base_model.model.model.layers.",
    ),
    "no lora_B": (lambda a: without(a, B), B),
    "no lora_A": (lambda a: without(a, A), A),
    "a pair missing": (lambda a: without(a, A, B), Q_PROJ + ".lora_"),
    "extra tensor": (lambda a: with_tensors(a, {"surprise": torch.ones(3)}), "surprise"),
    "a pair that the config does not target": (
        lambda a: with_tensors(
            a,
            {
                Q_PROJ.replace("q_proj", "o_proj") + ".lora_A.weight": torch.ones(4, 32),
                Q_PROJ.replace("q_proj", "o_proj") + ".lora_B.weight": torch.ones(32, 4),
            },
        ),
        Q_PROJ.replace("q_proj", "o_proj") + ".lora_",
    ),
    "dora without magnitudes": (lambda a: with_config(a, use_dora=True), "lora_magnitude_vector"),
    "too many inputs": (lambda a: with_tensors(a, {A: torch.ones(4, 33)}), A),
    "too few outputs": (lambda a: with_tensors(a, {B: torch.ones(16, 4)}), B),
    "transposed": (lambda a: with_tensors(a, {A: a.tensors[A].T}), A),
    "factors of two ranks": (lambda a: with_tensors(a, {A: torch.ones(5, 32)}), A),
    "rank above the config's": (
        lambda a: with_tensors(a, {A: torch.ones(8, 32), B: torch.ones(32, 8)}),
        Q_PROJ + ".lora_",
    ),
    "rank below the config's": (lambda a: with_config(a, r=6), ".lora_"),
    "rank other than the pattern's": (
        lambda a: with_config(a, rank_pattern={r".*\.1\..*q_proj": 3}),
        Q_PROJ + ".lora_",
    ),
    "a module to save that is not there": (
        lambda a: with_config(a, modules_to_save=["embed_tokens"]),
        "embed_tokens.weight",
    ),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory, pool_of):
    base = pool_of(LLAMA).base.folder
    return read_adapter(make_adapter(tmp_path_factory.mktemp("good"), base, r=4))


@pytest.mark.parametrize("what", BROKEN)
def test_an_error_names_the_tensor(what, good, engine_of):
    change, named = BROKEN[what]

    ((_, error),) = engine_of(LLAMA).answers([change(good)])

    assert isinstance(error, AdapterError)
    assert error.reason in (Reason.CORRUPT, Reason.BASE_MISMATCH)
    assert named in str(error)


LONGER_THAN_NEEDED = ("lora_embedding_A", "base_model.vera_A")
"""Tensors that may have columns for tokens or layers that are not there; these are not used. DoRA's
norms are over all tokens."""


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_tensor_of_every_kind_is_needed_in_its_shape(kind, pool_of, engine_of):
    """Each tensor lost, and each with a column too many, before a good adapter."""
    made = pool_of(LLAMA).made(kind)[0]
    adapter = made.adapter
    batch, named = [], []  # broken adapters, and what is broken in each and the tensor's name
    longer = []
    for name, tensor in adapter.tensors.items():
        if ".lm_head." in name:
            continue  # above the hidden state
        wider = torch.cat([tensor, tensor[..., :1]], dim=-1)
        if name.endswith(LONGER_THAN_NEEDED) and not adapter.config.values.get("use_dora"):
            longer.append(with_tensors(adapter, {name: wider}))
            continue
        batch.append(with_tensors(adapter, {name: wider}))
        # Of LoKr any of the factors may be the wrong one.
        named.append(("wider", name.partition(".lokr_")[0]))
        if not name.endswith(".base_layer.weight"):  # the base has it too
            batch.append(without(adapter, name))
            named.append(("missing", name))

    answers = dict(engine_of(LLAMA).answers([*batch, adapter, *longer]))

    for place in range(len(batch), len(batch) + 1 + len(longer)):
        assert relative_error(answers[place].activations, made.expected) <= 1e-5
    unnoticed = [
        (what, name, answers[place])
        for place, (what, name) in enumerate(named)
        if not (type(answers[place]) is AdapterError and name in str(answers[place]))
    ]
    assert unnoticed == []


OTHER_SIZES = {
    "adalora": {"init_r": 20},
    "delora": {"r": 20, "rank_pattern": {}},
    "gralora": {"r": 16},
    "miss": {"r": 20},
    "mini miss": {"mini_r": 16},
    "hra": {"r": 20},
    "hira": {"r": 20},
    "vblora": {"r": 20},
    "c3a": {"block_size": 16},
    "fourierft": {"n_frequency": 201},
    "randlora": {"r": 20},
    "oft": {"oft_block_size": 16},
    "boft": {"boft_block_size": 16},
    "boft by number": {"boft_block_num": 2},
    "shira": {"r": 6},
    "waveft": {"n_frequency": 201},
}
"""Kinds whose config states the sizes of their tensors, and other sizes."""


@pytest.mark.parametrize("kind", OTHER_SIZES)
def test_a_config_of_other_sizes_is_refused_as_peft_refuses_it(kind, pool_of, engine_of, tmp_path):
    made = pool_of(LLAMA).made(kind_named(kind))[0]
    changed = with_config(made.adapter, **OTHER_SIZES[kind])

    ((_, error),) = engine_of(LLAMA).answers([changed])

    assert isinstance(error, AdapterError)
    assert error.reason in (Reason.CORRUPT, Reason.BASE_MISMATCH)
    assert "shape" in str(error)
    folder = tmp_path / "changed"
    shutil.copytree(made.folder, folder)
    (folder / "adapter_config.json").write_text(json.dumps(changed.config.values))
    with pytest.raises(RuntimeError, match="size mismatch"):
        pool_of(LLAMA).load(folder)


def test_a_bad_adapter_does_not_disturb_its_batch(good, pool_of, engine_of):
    made = pool_of(LLAMA).all_kinds()
    bad = cycle([change(good) for change, _ in BROKEN.values()])
    batch = [adapter for one in made for adapter in (one.adapter, next(bad))]

    answers = dict(engine_of(LLAMA).answers(batch))

    for place, one in enumerate(made):
        assert relative_error(answers[2 * place].activations, one.expected) <= 1e-5, one.name
        assert isinstance(answers[2 * place + 1], AdapterError)
