"""A base's structure comes out of config.json alone and says what the loaded base would say."""

import pytest
from families import family, make_base

from hubdelta.indexer.base_model import BaseModel
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import HubdeltaError


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "t5", "bart"])
def test_without_weights_it_says_the_same(model_type, tmp_path):
    folder = make_base(tmp_path, model_type=model_type, **family(model_type).config)
    base = BaseModel.load(folder, ALPACA_5)
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()

    structure = BaseStructure.read(folder)

    assert {parameter.device.type for parameter in structure.model.parameters()} == {"meta"}
    for fact in ("shapes", "output_layer", "hidden_size", "model_type", "is_encoder_decoder"):
        assert getattr(structure, fact) == getattr(base, fact), fact
    assert structure.is_above_hidden_state("lm_head.weight")
    modules = [name for name, _ in base.model.named_modules()]
    assert [name for name, _ in structure.model.named_modules()] == modules


@pytest.mark.parametrize("config", ["{}", "not json", '{"model_type": "of-tomorrow"}'])
def test_what_is_no_language_model_is_one_clear_error(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(HubdeltaError, match="cannot be loaded"):
        BaseStructure.read(tmp_path)
