"""Adapters that were read as blocks, many of them alike, against PEFT's forward pass."""

import peft
import pytest
import torch
from families import family, save_adapter
from made_by_peft import read_adapter, relative_error, run

from hubdelta.indexer.engines.edits import block_edits
from hubdelta.indexer.engines.edits.block_edits import BlockEdits
from hubdelta.indexer.engines.stacked.block_stacks import blocks_in
from hubdelta.indexer.engines.stacked.engine import StackedEngine

TOLERANCE = 1e-5

KINDS = {
    "lora": {"r": 4},
    "another rank": {"r": 7},
    "fewer layers": {"r": 4, "targets": 1},
    "rslora": {"r": 4, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
    "dora of fewer layers": {"r": 3, "use_dora": True, "targets": 2},
}

MIXES = {
    "alike": ["lora"],
    "with other scales": ["lora", "rslora"],
    "of several layouts": ["lora", "another rank", "fewer layers"],
    "dora": ["dora"],
    "with and without magnitudes": list(KINDS),
}


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen2"])  # Conv1D; biases
def test_a_batch_of_blocks_is_exact(model_type, mix, stored, tmp_path, pool_of, monkeypatch):
    pool = pool_of(family(model_type))
    # A few tensors each where numbers take two bytes, all in one where they take four.
    monkeypatch.setattr(block_edits, "_SEGMENT", 1000 if stored == torch.bfloat16 else 4 << 20)
    adapters, expected = [], []
    for number in range(3):
        for name in MIXES[mix]:
            settings = dict(KINDS[name])
            targets = list(pool.family.linear)[: settings.pop("targets", None)]
            config = peft.LoraConfig(target_modules=targets, lora_alpha=3 + 5 * number, **settings)
            folder = save_adapter(
                tmp_path / f"{name} {number}",
                pool.base.read_again(),
                config,
                "org/base",
                seed=len(adapters),
                dtype=stored,
            )
            adapters.append(read_adapter(folder))
            expected.append(run(pool.load(folder), pool.base.probes))
    engine = StackedEngine(pool.base)
    list(engine.answers(adapters))  # the first pass has an adapter of no edits beside them

    edits = [engine._reader.read(adapter) for adapter in adapters]
    assert blocks_in(edits) is not None
    plans = {each.plan for each in edits if isinstance(each, BlockEdits)}
    assert len(plans) == len(MIXES[mix])  # one for all that differ in nothing but numbers
    assert all((len(plan.segments) > 1) == (stored == torch.bfloat16) for plan in plans)
    states = engine.model.run(engine.model.prepare(edits, "fp32"))
    answers = dict(engine.answers(adapters))

    for place, right in enumerate(expected):
        assert relative_error(states[place], right) <= TOLERANCE
        assert relative_error(answers[place].activations, right) <= TOLERANCE


def test_what_is_not_all_of_one_type_is_read_tensor_by_tensor(tmp_path, pool_of):
    """Its places are still found, and so are those of a second one like it."""
    pool = pool_of(family("llama"))
    engine = StackedEngine(pool.base)
    for number in range(2):
        model = pool.base.read_again()
        folder = tmp_path / str(number)
        config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"])
        save_adapter(folder, model, config, "org/base", seed=number, dtype=torch.bfloat16)
        adapter = read_adapter(folder)
        expected = run(pool.load(folder), pool.base.probes)

        ((_, answer),) = engine.answers([adapter])

        assert not isinstance(engine._reader.read(adapter), BlockEdits)
        assert relative_error(answer.activations, expected) <= TOLERANCE
