"""The models that are given to rivals which take no adapters."""

import sys
from pathlib import Path

import torch
from families import load_model, make_adapter
from lora import factors
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from rivals import merged


def test_a_merged_model_is_the_base_with_the_adapters_change(tiny_base, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", tiny_base, r=4, lora_alpha=8)
    merged(tiny_base, adapter, tmp_path / "merged")
    before = dict(load_model(tiny_base).named_parameters())
    after = dict(load_model(tmp_path / "merged").named_parameters())
    own = factors(adapter)
    assert before.keys() == after.keys()
    changed = 0
    for name, weight in before.items():
        expected = weight.double()
        if (parts := own.get(f"base_model.model.{name.removesuffix('.weight')}")) is not None:
            expected = expected + 2 * torch.from_numpy(parts["B"] @ parts["A"])
            changed += 1
        torch.testing.assert_close(after[name].double(), expected, rtol=1e-5, atol=1e-6)
    assert changed == len(own)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").vocab_size
