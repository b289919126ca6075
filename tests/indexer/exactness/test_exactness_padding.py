"""Transformers on all probes in one padded batch agrees with the engine, on either side."""

import numpy as np
import pytest
import torch
from adapter_kinds import kind_named
from families import family
from made_by_peft import relative_error


@torch.inference_mode()
def run_padded(model, probes, side):
    """Last real token's last hidden state of each probe, [probes, hidden]; padded with token 0."""
    length = max(probe.shape[1] for probe in probes)
    tokens = torch.zeros(len(probes), length, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    for row, probe in enumerate(probes):
        size = probe.shape[1]
        place = slice(length - size, length) if side == "left" else slice(size)
        tokens[row, place], mask[row, place] = probe, 1
    states = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states[-1]
    last = [int(row.nonzero().max()) for row in mask]
    return states[torch.arange(len(probes)), last].numpy()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["lora", "saved embedding"])
@pytest.mark.parametrize("family", [family("llama"), family("gpt2")], ids=str)
def test_padding_does_not_change_an_answer(family, kind, side, pool_of, engine_of):
    pool = pool_of(family)
    assert len({probe.shape[1] for probe in pool.base.probes}) > 1
    made = pool.made(kind_named(kind))

    # Gathered first: the engine must not build modules beside PEFT, which does not share its lock.
    for place, answer in list(engine_of(family).answers([one.adapter for one in made])):
        padded = run_padded(pool.load(made[place].folder), pool.base.probes, side)
        assert relative_error(answer.activations, padded) <= 1e-5
        base_padded = run_padded(pool.base.model, pool.base.probes, side)
        assert relative_error(answer.baseline.activations, base_padded) <= 1e-5
        assert np.linalg.norm(padded - base_padded) > 1e-3 * np.linalg.norm(padded)
