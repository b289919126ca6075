"""A base that is put on a device as it is stored answers in fp32 as one that was loaded in fp32.

The way a GPU takes it: half-precision weights beside fp32 activations. The CPU stands in under its
other name, `cpu:0`, which is another device than the base's to torch.
"""

import numpy as np
import pytest
import torch
from adapter_kinds import KINDS
from families import FAMILIES, load_model, make_base

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5

LORA = next(kind for kind in KINDS if kind.name == "lora")


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_half_precision_weights_give_the_same_fp32_answers(family, tmp_path, pool_of):
    folder = make_base(tmp_path, model_type=family.model_type, **family.config)
    load_model(folder, dtype=torch.bfloat16).save_pretrained(folder)
    adapters = [made.adapter for made in pool_of(family).made(LORA)]

    stored = BaseModel.load(folder, ALPACA_5, as_stored=True)
    assert next(stored.model.parameters()).dtype == torch.bfloat16
    there = StackedEngine(stored, device="cpu:0", precision="fp32")
    here = StackedEngine(BaseModel.load(folder, ALPACA_5))

    expected = dict(here.answers(adapters))
    for place, answer in there.answers(adapters):
        np.testing.assert_allclose(
            answer.activations, expected[place].activations, rtol=1e-4, atol=1e-5
        )
