"""Hidden states other than the paper's: each engine returns what transformers and PEFT give."""

import numpy as np
import peft
import pytest
import torch
from by_peft import delta_by_peft, states_by_transformers
from families import family, load_model, make_adapter, make_base
from finetunes import embed, full, make_finetune, probes_of

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.pooling import pooled
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.pipeline.recipe_check import check_recipe
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import UsageError

CLOSE = 1e-5
MEAN = Readout(pooling="mean")
FAMILIES = [family(name) for name in ("llama", "gpt2", "gemma2", "bloom", "opt", "qwen2_moe")]


def error(found, wanted) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def base_of(folder, family):
    return make_base(folder, model_type=family.model_type, **family.config)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("engine", [ReferenceEngine, StackedEngine])
def test_adapters_are_read_as_transformers_and_peft_do(engine, family, read_adapter, tmp_path):
    folder = base_of(tmp_path / "base", family)
    prompts = ALPACA_5.prompts
    adapters = [
        make_adapter(
            tmp_path / str(seed), folder, seed=seed, target_modules=list(family.linear), r=rank
        )
        for seed, rank in enumerate((4, 8))
    ]
    base = BaseModel.load(folder, ALPACA_5, readout=MEAN)
    assert len({probe.shape[1] for probe in base.probes}) > 1  # so that some are padded
    answers = dict(engine(base).answers([read_adapter(adapter) for adapter in adapters]))

    own = states_by_transformers(folder, load_model(folder), prompts, pooling="mean")
    for place, adapter in enumerate(adapters):
        wanted = delta_by_peft(folder, adapter, prompts, pooling="mean")
        assert error(answers[place].baseline.activations, own) < CLOSE
        assert error(answers[place].delta, wanted) < CLOSE
        assert error(answers[place].delta, delta_by_peft(folder, adapter, prompts)) > 0.1


def test_padding_does_not_count():
    states = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    ends = [1, 4, 0]

    mean = pooled(states, MEAN, torch.tensor(ends))
    last = pooled(states, PAPERS, torch.tensor(ends))

    for row, end in enumerate(ends):
        torch.testing.assert_close(mean[row], states[row, : end + 1].mean(0))
        torch.testing.assert_close(last[row], states[row, end])


def test_tokens_of_a_learned_prompt_do_not_count(read_adapter, tmp_path):
    folder = make_base(tmp_path / "base")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapter = make_adapter(tmp_path / "adapter", folder, config=config, scale=1.0)
    base = BaseModel.load(folder, ALPACA_5, readout=MEAN)

    ((_, answer),) = ReferenceEngine(base).answers([read_adapter(adapter)])

    wanted = delta_by_peft(folder, adapter, ALPACA_5.prompts, pooling="mean")
    assert error(answer.delta, wanted) < CLOSE


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_finetunes_are_read_as_transformers_does(family, tmp_path):
    folder = base_of(tmp_path / "base", family)
    finetune = make_finetune(tmp_path / "finetune", folder)

    answer = embed(StreamedEngine(folder, probes_of(folder), readout=MEAN), full(finetune))

    own, its = (
        states_by_transformers(folder, load_model(one), ALPACA_5.prompts, pooling="mean")
        for one in (folder, finetune)
    )
    assert error(answer.baseline.activations, own) < CLOSE
    assert error(answer.activations, its) < CLOSE


def test_a_readout_is_another_recipe():
    recipes = [
        Recipe.of("org/base", "a" * 40, ALPACA_5, readout=readout) for readout in (PAPERS, MEAN)
    ]

    assert [recipe.token for recipe in recipes] == ["last", "mean"]
    assert len({recipe.id for recipe in recipes}) == 2


def test_an_encoder_decoder_has_one_hidden_state(tmp_path):
    folder = base_of(tmp_path, family("t5"))

    check_recipe(folder, ALPACA_5, PAPERS)
    with pytest.raises(UsageError, match="its decoder's only token"):
        check_recipe(folder, ALPACA_5, MEAN)


def test_vllm_has_only_the_papers_readout():
    with pytest.raises(UsageError, match="vllm returns only the last token"):
        IndexSettings(engine="vllm", pooling="mean")


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UsageError, match="no pooling 'max': one of last, mean"):
        IndexSettings(pooling="max")
