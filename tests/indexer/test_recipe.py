"""What makes two vectors comparable: recipes of old stay what they were."""

import pytest
from families import family, make_base

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.recipe import Recipe, is_encoder_decoder
from hubdelta.schemas.errors import HubdeltaError

REVISION = "a" * 40


def test_the_id_of_a_decoder_only_base_is_that_of_the_first_version():
    assert Recipe.of("org/base", REVISION, ALPACA_5).id == "3c7c2e588bc22e20"


def test_a_decoder_start_is_another_recipe_than_a_last_token():
    last = Recipe.of("org/base", REVISION, ALPACA_5)
    start = Recipe.of("org/base", REVISION, ALPACA_5, encoder_decoder=True)
    assert (last.token, start.token) == ("last", "decoder_start")
    assert last.id != start.id


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "mt5", "bart"])
def test_config_json_tells_what_transformers_makes(model_type, tmp_path):
    folder = make_base(tmp_path, model_type=model_type, **family(model_type).config)
    both = BaseModel.load(folder, ALPACA_5).is_encoder_decoder
    assert is_encoder_decoder(folder / "config.json") is both


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_an_unreadable_config_is_one_clear_error(content, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(HubdeltaError, match=r"config\.json"):
        is_encoder_decoder(tmp_path / "config.json")
