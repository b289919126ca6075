"""On a GPU too fp32 answers are PEFT's: every family, all kinds of adapters in mixed batches."""

import pytest
import torch
from families import FAMILIES
from made_by_peft import relative_error

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")

TOLERANCE = 2e-5
"""Of fp32 on a GPU against fp32 on a CPU, which sum in other orders."""


@pytest.mark.parametrize("max_batch", [3, None])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_activations_on_a_gpu_are_those_of_peft_on_a_cpu(family, max_batch, pool_of):
    pool = pool_of(family)
    made = pool.all_kinds()
    base = BaseModel.load(pool.base.folder, ALPACA_5, as_stored=True)
    engine = StackedEngine(base, device="cuda", precision="fp32", max_batch=max_batch)

    results = dict(engine.answers([one.adapter for one in made]))

    off = {}
    for place, one in enumerate(made):
        answer = results[place]
        assert isinstance(answer, Answer), (one.name, answer)
        error = relative_error(answer.activations, one.expected)
        if not error <= TOLERANCE:
            off[one.name] = error
    assert off == {}
    error = relative_error(engine.baseline("fp32").activations, pool.base_activations)
    assert error <= TOLERANCE
