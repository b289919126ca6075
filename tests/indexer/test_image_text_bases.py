"""Bases that take images as well: probes and adapters meet their text part alone."""

import numpy as np
import peft
import pytest
import torch
from families import make_base, save_adapter
from image_text import CONFIGS, NO_TEXT_CLASS, load_image_text, make_image_text_base
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer

from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import HubdeltaError


def text_part(model):
    """What returns the last hidden state of a text."""
    parts = dict(model.named_modules())
    language = next((parts[name] for name in parts if name.endswith("language_model")), model)
    return getattr(language, "model", language)  # Llama 4's has a head of its own


@torch.no_grad()
def last_states(model, probes):
    states = [text_part(model)(input_ids=probe).last_hidden_state[0, -1] for probe in probes]
    return torch.stack(states).numpy()


@pytest.mark.parametrize(
    "targets",
    [r"(?!.*vision).*(q_proj|v_proj|in_proj_qkv)", ["q_proj", "v_proj", "qkv", "in_proj_qkv"]],
    ids=["of the text part", "of the vision tower too"],
)
@pytest.mark.parametrize("model_type", sorted(CONFIGS | NO_TEXT_CLASS))
def test_its_text_part_and_adapters_of_it_are_stacked(model_type, targets, tmp_path, read_adapter):
    folder = make_image_text_base(tmp_path / "base", model_type)
    base = BaseModel.load(folder, ALPACA_5)
    model = base.read_again()
    save_adapter(
        tmp_path / "adapter", model, peft.LoraConfig(r=4, target_modules=targets), "org/base"
    )
    adapter = read_adapter(tmp_path / "adapter")
    unreached = [p for name, p in base.model.named_parameters() if base.is_unreached(name)]
    with torch.no_grad():
        for parameter in unreached:  # nothing may depend on them
            parameter.normal_()
    engine = StackedEngine(base)

    assert engine.can_embed(adapter)
    ((_, answer),) = engine.answers([adapter])

    expected = last_states(load_image_text(folder), base.probes)
    found = answer.baseline.activations
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    expected = last_states(model.eval(), base.probes)  # PEFT has put the adapter into it
    np.testing.assert_allclose(answer.activations, expected, rtol=1e-4, atol=1e-5)


def test_a_base_that_needs_an_image_is_refused_in_one_line(tmp_path):
    sizes = {"layers": 1, "embed_dim": 32, "ffn_dim": 64, "attention_heads": 4, "vocab_size": 400}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = AutoConfig.for_model(
        "kosmos-2",
        text_config=sizes,
        vision_config=vision | {"num_attention_heads": 2, "image_size": 28, "patch_size": 14},
    )
    AutoModelForImageTextToText.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(make_base(tmp_path / "text")).save_pretrained(tmp_path)
    base = BaseModel.load(tmp_path, ALPACA_5)

    with pytest.raises(HubdeltaError, match="a kosmos-2 cannot be run on text alone") as failure:
        ReferenceEngine(base)
    assert len(str(failure.value).splitlines()) == 1


def test_a_speech_model_is_refused_in_one_line(tmp_path):
    config = AutoConfig.for_model("granite_speech")
    config.save_pretrained(tmp_path)
    with pytest.raises(HubdeltaError, match=r"no language model of type granite_speech$"):
        BaseStructure.read(tmp_path)
