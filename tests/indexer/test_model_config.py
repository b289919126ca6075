"""Which config.json describes a finetune of a base, and which does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from hubdelta.indexer.adapters.model_config import parse_model_config
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.errors import AdapterError, Reason

TEXT: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
VISION = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def settings(model_type: str, **changes: Any) -> dict[str, Any]:
    """A config.json of an image-text model or of a text model, as transformers writes it."""
    parts = {"text_config": TEXT, "vision_config": VISION}
    own = parts if model_type in {"gemma3", "llama4", "mistral3"} else TEXT
    config = AutoConfig.for_model(model_type, **own).to_dict()
    return json.loads(json.dumps(config)) | changes


def base(folder: Path, model_type: str) -> BaseStructure:
    (folder / "config.json").write_text(json.dumps(settings(model_type)))
    return BaseStructure.read(folder)


def read(config: dict[str, Any], base: BaseStructure) -> Any:
    return parse_model_config(json.dumps(config).encode(), base)


@pytest.mark.parametrize(
    ("whole", "text"), [("gemma3", "gemma3_text"), ("llama4", "llama4_text"), ("llama", "llama")]
)
def test_the_text_class_of_a_base_and_the_other_way_around(
    whole: str, text: str, tmp_path: Path
) -> None:
    for own, found in ((whole, text), (text, whole), (whole, whole)):
        assert read(settings(found), base(tmp_path, own)) == settings(found)


def test_an_image_text_model_around_a_text_base(tmp_path: Path) -> None:
    config = settings("mistral3")
    config["text_config"] = settings("mistral")
    assert read(config, base(tmp_path, "mistral")) == config


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (settings("qwen2"), "a qwen2 of hidden size 32; the base is a gemma3 of 32"),
        (settings("gemma3_text", hidden_size=64), "a gemma3_text of hidden size 64"),
        (
            settings("gemma3", text_config=settings("gemma3_text", hidden_size=64)),
            "a gemma3 of hidden size 64",
        ),
        ({"model_type": "no-such-model"}, "a no-such-model of hidden size unknown"),
        ({}, "a None of hidden size unknown"),
        (settings("gemma3_text", num_hidden_layers=10**9), "says num_hidden_layers=1e"),
        (
            settings("gemma3", vision_config={"num_hidden_layers": 10**9}),
            r"says vision_config\.num_hidden_layers=1e",
        ),
    ],
    ids=str,
)
def test_another_model(found: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        read(found, base(tmp_path, "gemma3"))
    assert caught.value.reason is Reason.BASE_MISMATCH


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_no_json(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="not JSON") as caught:
        parse_model_config(content, base(tmp_path, "llama"))
    assert caught.value.reason is Reason.CORRUPT


def test_a_config_that_transformers_refuses(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="makes no model") as caught:
        read(settings("llama", num_attention_heads="four"), base(tmp_path, "llama"))
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
