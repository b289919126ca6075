"""Tiny random models and adapters of them, made with transformers and PEFT and saved as they save.

A thousandth of a real model's size, but with the real classes, so that a test of mechanics takes
milliseconds. What needs a model that really learned something uses the demo's adapters.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import peft
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from hubdelta.indexer.probes import ALPACA_5


def make_base(folder: Path, *, model_type: str = "llama", seed: int = 0, **config: Any) -> Path:
    """A tiny causal language model with a word-level tokenizer that knows the probes."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **(sizes | config)), dtype=torch.float32
    )
    for parameter in model.parameters():
        # The usual small initialisation makes hidden states that hardly depend on the input.
        torch.nn.init.normal_(parameter, std=0.2 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    folder: Path,
    base: Path,
    *,
    config: peft.PeftConfig | None = None,
    seed: int = 0,
    scale: float = 0.1,
    base_name: str | None = None,
    **lora: Any,
) -> Path:
    """An adapter with random weights, saved by PEFT; LoRA with the given settings by default."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if config is None:
        settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
        config = peft.LoraConfig(**(settings | lora))
    wrapped = peft.get_peft_model(model, config)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=scale)
    wrapped.peft_config["default"].base_model_name_or_path = base_name or str(base)
    with warnings.catch_warnings():
        # PEFT asks the Hub about the base by name, and says that this one is not there.
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Whitespace()
    words = {word for prompt in ALPACA_5.prompts for word, _ in split.pre_tokenize_str(prompt)}
    tokenizer = Tokenizer(models.WordLevel(_numbered(["<unk>", *sorted(words)]), "<unk>"))
    tokenizer.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def _numbered(words: Iterable[str]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}
