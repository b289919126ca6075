"""Whole models under the names of another class than the base's, or of a wrapper around it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import files_of, load_model, make_base, saved_once
from finetunes import distance, embed, expected, full, make_finetune, probes_of, rewrite
from image_text import CONFIGS, load_image_text, make_image_text_base
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.hidden_states import hidden_states
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.schemas.errors import AdapterError, Reason

CLOSE = 1e-5


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def image_text_base(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return make_image_text_base(tmp_path_factory.mktemp("base") / "base", request.param)


@pytest.fixture(scope="module")
def image_text_engine(image_text_base: Path) -> StreamedEngine:
    return StreamedEngine(image_text_base, probes_of(image_text_base))


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> StreamedEngine:
    return StreamedEngine(tiny_base, probes_of(tiny_base))


def states(folder: Path, base: Path) -> Activations:
    """Of a whole image-text model that is asked with text."""
    with torch.inference_mode():
        return hidden_states(load_image_text(folder), probes_of(base))


def finetuned(folder: Path, base: Path) -> Path:
    """All weights of an image-text base changed, saved by its own class."""
    return saved_once(folder, ("finetune", files_of(base)), lambda: _finetune(folder, base))


def _finetune(folder: Path, base: Path) -> None:
    model = load_image_text(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def rename(folder: Path, change: Callable[[str], str]) -> None:
    """Save the weights of a folder under other names."""
    tensors = load_file(folder / "model.safetensors")
    rewrite(folder, dict.fromkeys(tensors) | {change(name): tensors[name] for name in tensors})


def test_an_image_text_model(
    image_text_base: Path, image_text_engine: StreamedEngine, tmp_path: Path
) -> None:
    finetune = finetuned(tmp_path / "finetune", image_text_base)
    answer = embed(image_text_engine, full(finetune))
    assert distance(answer.activations, states(finetune, image_text_base)) < CLOSE
    own = states(image_text_base, image_text_base)
    assert distance(answer.baseline.activations, own) < CLOSE


def test_its_vision_tower_is_not_needed(
    image_text_base: Path, image_text_engine: StreamedEngine, tmp_path: Path
) -> None:
    finetune = finetuned(tmp_path / "finetune", image_text_base)
    wanted = states(finetune, image_text_base)
    seen = [
        name
        for name in load_file(finetune / "model.safetensors")
        if "vision" in name or "visual" in name or "projector" in name
    ]
    assert seen
    rewrite(finetune, dict.fromkeys(seen))
    answer = embed(image_text_engine, full(finetune))
    assert distance(answer.activations, wanted) < CLOSE


def test_the_text_part_alone(
    image_text_base: Path, image_text_engine: StreamedEngine, tmp_path: Path
) -> None:
    """As trainers of text save it; and later under a name of the whole."""
    whole = finetuned(tmp_path / "whole", image_text_base)
    wanted = states(whole, image_text_base)
    model = load_image_text(whole)
    text = AutoModelForCausalLM.from_config(model.config.get_text_config(), dtype=torch.float32)
    inner = next(text.children())
    part = next(module for module in model.modules() if type(module) is type(inner))
    inner.load_state_dict(part.state_dict())
    finetune = tmp_path / "finetune"
    text.save_pretrained(finetune)
    assert distance(embed(image_text_engine, full(finetune)).activations, wanted) < CLOSE
    rename(finetune, lambda name: name.replace("language_model.", ""))
    for prefix in ("language_model.", "model.language_model."):
        other = tmp_path / prefix
        shutil.copytree(finetune, other)
        inside = "model." if prefix.startswith("model.") else ""
        rename(other, lambda name: prefix + name.removeprefix(inside))  # noqa: B023
        assert distance(embed(image_text_engine, full(other)).activations, wanted) < CLOSE


def test_a_gemma_3_of_before_transformers_4_52(tmp_path: Path) -> None:
    base = make_image_text_base(tmp_path / "base", "gemma3")
    finetune = finetuned(tmp_path / "finetune", base)
    wanted = states(finetune, base)
    whole = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
    }

    def older(name: str) -> str:
        for new, old in whole.items():
            if name.startswith(new):
                return name.replace(new, old)
        return name.removeprefix("model.")

    rename(finetune, older)
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, wanted) < CLOSE


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "pretrained_model."]
)
def test_names_that_a_wrapper_left(
    prefix: str, tiny_base: Path, engine: StreamedEngine, tmp_path: Path
) -> None:
    finetune = make_finetune(tmp_path / "finetune", tiny_base, shard="1GB")
    wanted = expected(finetune, tiny_base)
    rename(finetune, lambda name: prefix + name)
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, wanted) < CLOSE


def test_names_that_a_wrapper_of_each_layer_left(
    tiny_base: Path, engine: StreamedEngine, tmp_path: Path
) -> None:
    finetune = make_finetune(tmp_path / "finetune", tiny_base, shard="1GB")
    wanted = expected(finetune, tiny_base)
    rename(finetune, lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module."))
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, wanted) < CLOSE


def test_a_parameter_under_two_names_is_refused(
    tiny_base: Path, engine: StreamedEngine, tmp_path: Path
) -> None:
    finetune = make_finetune(tmp_path / "finetune", tiny_base, shard="1GB")
    norm = "model.norm.weight"
    rewrite(finetune, {f"module.{norm}": torch.ones(32)})
    with pytest.raises(AdapterError, match=rf"{norm} and module\.{norm}") as caught:
        embed(engine, full(finetune))
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("rows", [60, 100])
@pytest.mark.parametrize("tied", [True, False])
def test_another_number_of_tokens_than_the_base(tied: bool, rows: int, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", vocab_size=80, tie_word_embeddings=True)
    model = load_model(base)
    torch.manual_seed(2)
    model.resize_token_embeddings(rows)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    finetune = tmp_path / "finetune"
    model.save_pretrained(finetune)
    make_finetune(tmp_path / "changed", finetune)
    answer = embed(StreamedEngine(base, probes_of(base)), full(tmp_path / "changed"))
    assert distance(answer.activations, expected(tmp_path / "changed", base)) < CLOSE
