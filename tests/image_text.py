"""Tiny image-text models, made and loaded by transformers."""

import copy
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from families import files_of, saved_once, tokenizer_of_the_probes
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

_TEXT: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_VISION: Final[dict[str, Any]] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "gemma3": {
        "text_config": _TEXT | {"query_pre_attn_scalar": 8, "sliding_window": 20},
        "vision_config": _VISION,
        "mm_tokens_per_image": 4,
    },
    "qwen3_5": {
        "text_config": _TEXT
        | {
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "full_attention_interval": 2,
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
        },
    },
    "qwen3_5_moe": {
        "text_config": _TEXT
        | {
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "full_attention_interval": 2,
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
        },
    },
    "llama4": {
        "text_config": _TEXT
        | {
            "intermediate_size_mlp": 64,
            "num_local_experts": 2,
            "interleave_moe_layer_step": 2,
            "no_rope_layers": [1, 0],
        },
        "vision_config": _VISION
        | {
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
    },
    "mistral3": {
        "text_config": _TEXT | {"model_type": "mistral"},
        "vision_config": _VISION | {"model_type": "pixtral", "head_dim": 16},
    },
}
"""Settings of an image-text model by its type."""

NO_TEXT_CLASS: Final[dict[str, dict[str, Any]]] = {
    "qwen3_vl": {
        "text_config": _TEXT
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1]}},
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
        },
    },
}
"""The same of families whose text part alone has no class in transformers."""


def make_image_text_base(folder: Path, model_type: str) -> Path:
    """A tiny image-text model with random weights and the tokenizer of `families`."""
    return saved_once(folder, ("image-text base", model_type), lambda: _make(folder, model_type))


def _make(folder: Path, model_type: str) -> None:
    tokenizer = tokenizer_of_the_probes()
    config = AutoConfig.for_model(model_type, **(CONFIGS | NO_TEXT_CLASS)[model_type])
    config.get_text_config().vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        small = parameter.dim() > 1 or name.endswith("bias")
        torch.nn.init.normal_(parameter, std=0.2 if small else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_image_text(folder: Path) -> PreTrainedModel:
    """An image-text model as transformers loads it, in fp32."""
    return copy.deepcopy(_loaded(files_of(folder), folder))


@lru_cache(maxsize=32)
def _loaded(_: Hashable, folder: Path) -> PreTrainedModel:
    with torch.random.fork_rng():
        return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
