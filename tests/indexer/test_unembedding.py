"""Output layers: logits as the whole model computes them, and which tokens a delta promotes."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, load_model, make_base
from image_text import CONFIGS, load_image_text, make_image_text_base
from transformers import AutoConfig, AutoModelForCausalLM

from hubdelta.indexer.base_structure import below_head
from hubdelta.indexer.engines import unembedding
from hubdelta.indexer.engines.unembedding import Unembedding
from hubdelta.schemas.errors import HubdeltaError

_HIDDEN = 32

IDS = torch.arange(3, 12)[None]


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    monkeypatch.setattr(unembedding, "_BLOCK_BYTES", 50 * 4 * _HIDDEN)


def answered(model) -> tuple[torch.Tensor, torch.Tensor]:
    """The last hidden states of some tokens, and the logits that the whole model gives."""
    with torch.inference_mode():
        if not model.config.is_encoder_decoder:
            states = below_head(model)[0](input_ids=IDS, use_cache=False).last_hidden_state
            return states[0], model(input_ids=IDS, use_cache=False).logits[0]
        answer = model(input_ids=IDS, decoder_input_ids=IDS, output_hidden_states=True)
        return answer.decoder_hidden_states[-1][0], answer.logits[0]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_logits_are_those_of_the_whole_model(family, tmp_path):
    folder = make_base(tmp_path / "base", model_type=family.model_type, **family.config)
    states, logits = answered(load_model(folder))
    torch.testing.assert_close(Unembedding(folder).logits(states), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_logits_of_image_text_models_are_those_of_the_whole_model(model_type, tmp_path):
    folder = make_image_text_base(tmp_path / "base", model_type)
    states, logits = answered(load_image_text(folder))
    torch.testing.assert_close(Unembedding(folder).logits(states), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "cohere", "logit_scale": 0.25},
        {"model_type": "granite", "logits_scaling": 8.0},
        {"model_type": "gemma2", "final_logit_softcapping": 0.5},
    ],
    ids=lambda config: config["model_type"],
)
def test_tokens_are_ranked_by_the_mean_change_of_their_logits(config, tmp_path):
    folder = make_base(tmp_path / "base", **config)
    model = load_model(folder)
    weight = model.get_output_embeddings().weight
    torch.manual_seed(0)
    deltas, center = torch.randn(4, _HIDDEN) * 3, torch.randn(_HIDDEN)
    states = torch.randn(5, _HIDDEN) * 3

    def logits(rows: torch.Tensor) -> torch.Tensor:
        plain = rows.double() @ weight.double().T * config.get("logit_scale", 1.0)
        plain /= config.get("logits_scaling", 1.0)
        cap = config.get("final_logit_softcapping")
        return plain if cap is None else cap * torch.tanh(plain / cap)

    with torch.inference_mode():
        moved = [
            torch.stack([logits(state + rows) - logits(state) for state in states]).mean(0)
            for rows in (*deltas, center)
        ]
    right = torch.stack([change - moved[-1] for change in moved[:-1]])
    best, worst = Unembedding(folder).extremes(deltas, center, states, k=7)
    for found, largest in ((best, True), (worst, False)):
        expected = right.topk(7, largest=largest)
        torch.testing.assert_close(found.changes.double(), expected.values, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.tokens, expected.indices)


def test_a_folder_without_weights_is_refused_in_one_line(tmp_path: Path):
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    with pytest.raises(HubdeltaError, match="holds no weights"):
        Unembedding(folder)


def test_a_head_of_several_layers_is_refused_in_one_line(tmp_path: Path):
    sizes = {"hidden_size": _HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "roberta", is_decoder=True, vocab_size=99, intermediate_size=8, **sizes
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(HubdeltaError, match="is not a linear one") as caught:
        Unembedding(tmp_path)
    assert "\n" not in str(caught.value)
