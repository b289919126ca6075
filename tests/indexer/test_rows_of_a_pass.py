"""A few adapters run with all probes side by side, many by length: the answers are the same."""

import numpy as np
import pytest
from families import FAMILIES, make_adapter, make_base

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.stacked import model as stacked_model
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_both_layouts_answer_the_same(family, tmp_path, read_adapter, monkeypatch):
    folder = make_base(tmp_path / "base", model_type=family.model_type, **family.config)
    base = BaseModel.load(folder, ALPACA_5)
    adapters = [
        read_adapter(
            make_adapter(
                tmp_path / str(seed), folder, seed=seed, target_modules=list(family.attention)
            )
        )
        for seed in range(2)
    ]
    answers = []
    for rows_of_a_pass in (10**6, 0):
        monkeypatch.setattr(stacked_model, "_ROWS_OF_A_PASS", {"cpu": rows_of_a_pass})
        engine = StackedEngine(base)
        passes = engine.model._rows(adapters=2)
        together = rows_of_a_pass > 0 and not base.is_encoder_decoder
        assert len(passes) == (1 if together else len({p.shape[1] for p in base.probes}))
        answers.append(dict(engine.answers(adapters)))
    for place in range(len(adapters)):
        side_by_side, by_length = (found[place].activations for found in answers)
        distance = np.linalg.norm(side_by_side - by_length)
        assert distance <= 1e-5 * np.linalg.norm(by_length)


def test_a_model_that_looks_at_what_follows_is_not_padded(tmp_path):
    folder = make_base(
        tmp_path / "base", model_type="gemma3_text", head_dim=8, use_bidirectional_attention=True
    )
    engine = StackedEngine(BaseModel.load(folder, ALPACA_5))
    assert len(engine.model._rows(adapters=1)) > 1
