"""Hidden states other than the paper's: each engine returns what transformers and PEFT give."""

import numpy as np
import peft
import pytest
import torch
from by_peft import delta_by_peft, states_by_transformers
from families import family, load_model, make_adapter, make_base
from finetunes import embed, full, make_finetune, probes_of

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.layer_state import state_given
from hubdelta.indexer.engines.pooling import pooled
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.pipeline.recipe_check import check_recipe
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, HubdeltaError, UsageError

CLOSE = 1e-5
MEAN = Readout(pooling="mean")
READOUTS = [MEAN, Readout(layer=1), Readout(pooling="mean", layer=1)]
FAMILIES = [family(name) for name in ("llama", "gpt2", "gemma2", "bloom", "opt", "qwen2_moe")]


def error(found, wanted) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def name_of(readout) -> str:
    return f"{readout.pooling} {readout.layer}"


def asked_of(readout):
    """The same of transformers."""
    return {"pooling": readout.pooling, "layer": -1 if readout.layer is None else readout.layer}


def base_of(folder, family):
    return make_base(folder, model_type=family.model_type, **family.config)


@pytest.mark.parametrize("readout", READOUTS, ids=name_of)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
@pytest.mark.parametrize("engine", [ReferenceEngine, StackedEngine])
def test_adapters_are_read_as_transformers_and_peft_do(
    engine, family, readout, read_adapter, tmp_path
):
    folder = base_of(tmp_path / "base", family)
    prompts = ALPACA_5.prompts
    adapters = [
        make_adapter(
            tmp_path / str(seed), folder, seed=seed, target_modules=list(family.linear), r=rank
        )
        for seed, rank in enumerate((4, 8))
    ]
    base = BaseModel.load(folder, ALPACA_5, readout=readout)
    assert len({probe.shape[1] for probe in base.probes}) > 1  # so that some are padded
    answers = dict(engine(base).answers([read_adapter(adapter) for adapter in adapters]))

    asked = asked_of(readout)
    own = states_by_transformers(folder, load_model(folder), prompts, **asked)
    for place, adapter in enumerate(adapters):
        wanted = delta_by_peft(folder, adapter, prompts, **asked)
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


@pytest.mark.parametrize("readout", [*READOUTS, Readout(layer=0)], ids=name_of)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_finetunes_are_read_as_transformers_does(family, readout, tmp_path):
    folder = base_of(tmp_path / "base", family)
    finetune = make_finetune(tmp_path / "finetune", folder)

    answer = embed(StreamedEngine(folder, probes_of(folder), readout=readout), full(finetune))

    own, its = (
        states_by_transformers(folder, load_model(one), ALPACA_5.prompts, **asked_of(readout))
        for one in (folder, finetune)
    )
    assert error(answer.baseline.activations, own) < CLOSE
    assert error(answer.activations, its) < CLOSE


def test_before_the_layers_adapters_change_nothing(read_adapter, tmp_path):
    folder = make_base(tmp_path / "base")
    adapter = read_adapter(make_adapter(tmp_path / "adapter", folder))
    base = BaseModel.load(folder, ALPACA_5, readout=Readout(layer=0))

    for engine in (ReferenceEngine(base), StackedEngine(base)):
        ((_, answer),) = engine.answers([adapter])
        assert not answer.delta.any()


def test_a_finetune_of_too_few_layers_has_no_such_state(tmp_path):
    folder = make_base(tmp_path / "base", num_hidden_layers=3)
    finetune = make_base(tmp_path / "finetune")
    engine = StreamedEngine(folder, probes_of(folder), readout=Readout(layer=2))

    with pytest.raises(AdapterError, match="it has 2 layers: layer 2 has no state"):
        embed(engine, full(finetune))


def test_several_states_for_each_token_are_refused():
    with pytest.raises(HubdeltaError, match="several hidden states for each token"):
        state_given([torch.zeros(4, 1, 5, 8)], {})


def test_a_readout_is_another_recipe():
    recipes = [
        Recipe.of("org/base", "a" * 40, ALPACA_5, readout=readout)
        for readout in (PAPERS, MEAN, Readout(layer=1), Readout(layer=0))
    ]

    assert [recipe.token for recipe in recipes] == ["last", "mean", "last", "last"]
    assert [recipe.layer for recipe in recipes] == ["final_norm", "final_norm", "1", "0"]
    assert len({recipe.id for recipe in recipes}) == 4


@pytest.mark.parametrize(
    ("layer", "same"), [(None, None), (-1, None), (2, None), (1, 1), (-2, 1), (0, 0), (-3, 0)]
)
def test_layers_are_counted_as_transformers_counts_them(layer, same):
    assert Readout(layer=layer).counted_from_the_start(2) == Readout(layer=same)


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist_is_one_clear_line(layer, tmp_path):
    with pytest.raises(UsageError, match=f"^the base has no layer {layer}: 0 .* to 2 .* to -3$"):
        check_recipe(make_base(tmp_path), ALPACA_5, Readout(layer=layer))


def test_an_encoder_decoder_has_one_hidden_state(tmp_path):
    folder = base_of(tmp_path, family("t5"))

    check_recipe(folder, ALPACA_5, PAPERS)
    with pytest.raises(UsageError, match="its decoder's only token"):
        check_recipe(folder, ALPACA_5, MEAN)
    with pytest.raises(UsageError, match="no other pooling or layer"):
        check_recipe(folder, ALPACA_5, Readout(layer=1))


def test_vllm_has_only_the_papers_readout():
    with pytest.raises(UsageError, match="vllm reads only the last token"):
        IndexSettings(engine="vllm", pooling="mean")
    with pytest.raises(UsageError, match="vllm reads only the last token after the final norm"):
        IndexSettings(engine="vllm", layer=1)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UsageError, match="no pooling 'max': one of last, mean"):
        IndexSettings(pooling="max")
