"""Answers and their vectors, beside a plain greedy loop and texts embedded one by one."""

import copy
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from families import family, load_model, make_adapter, make_base
from lora import read
from sentences import make_sentence_model
from transformers import AutoModel, AutoTokenizer

from hubdelta.evaluation.answers import ANSWER_TOKENS, Answerer, SentenceModel
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import HubdeltaError


@torch.inference_mode()
def greedy(model: torch.nn.Module, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """The likeliest next token, again and again, without a cache."""
    start = ids.shape[1]
    for _ in range(tokens):
        following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, following[:, None]], dim=1)
    return ids[0, start:]


def test_answers_are_those_of_a_greedy_loop_on_pefts_own_model(tiny_base, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", tiny_base, scale=0.5)
    base = BaseModel.load(tiny_base, ALPACA_5)
    answerer = Answerer.of(base)
    plain = answerer.answers(base.model)
    found = ReferenceEngine(base).with_adapter(read(adapter), answerer.answers)
    theirs = peft.PeftModel.from_pretrained(load_model(tiny_base), adapter).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    expected = [
        tokenizer.decode(greedy(theirs, probe, ANSWER_TOKENS), skip_special_tokens=True)
        for probe in base.probes
    ]
    assert found == expected
    assert found != plain
    assert answerer.answers(base.model) == plain  # the base is as it was


def test_sampling_that_the_base_recommends_is_ignored(tiny_base):
    base = BaseModel.load(tiny_base, ALPACA_5)
    answerer = Answerer.of(base)
    plain = answerer.answers(base.model)
    config = copy.deepcopy(base.model.generation_config)
    config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, max_length=3)
    base.model.generation_config = config
    assert answerer.answers(base.model) == plain


def test_an_encoder_decoder_answers_with_its_decoders_tokens_alone(tmp_path):
    base = BaseModel.load(
        make_base(tmp_path / "t5", model_type="t5", **family("t5").config), ALPACA_5
    )
    answers = Answerer.of(base).answers(base.model)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    expected = []
    for probe in base.probes:
        ids = torch.full_like(probe[:, :1], base.decoder_start)
        for _ in range(ANSWER_TOKENS):
            with torch.inference_mode():
                logits = base.model(input_ids=probe, decoder_input_ids=ids, use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1)[:, None]], dim=1)
            if ids[0, -1] == base.model.generation_config.eos_token_id:
                break
        expected.append(tokenizer.decode(ids[0], skip_special_tokens=True))
    assert answers == expected


def test_a_vector_is_the_mean_of_texts_embedded_one_by_one(tmp_path):
    folder = make_sentence_model(tmp_path / "sentences")
    texts = ["instruction", "", "Write a response that appropriately completes the request."]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    units = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = model(**ids).last_hidden_state[0].double().numpy()
        mean = states.mean(axis=0)
        units.append(mean / np.linalg.norm(mean))
    found = SentenceModel.load(folder).vector(texts)
    np.testing.assert_allclose(found, np.mean(units, axis=0), atol=1e-6)


def test_a_folder_without_a_sentence_model_is_told(tmp_path: Path):
    with pytest.raises(HubdeltaError, match=r"the sentence model in .* cannot be loaded"):
        SentenceModel.load(tmp_path)
