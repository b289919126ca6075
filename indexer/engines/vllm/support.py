"""Which bases and adapters vLLM computes exactly: tables of architectures and of LoRA settings.

vLLM silently ignores what it does not know: settings for which its reader of adapter_config.json
has no field, and tensors of modules that it does not wrap (vllm/lora/peft_helper.py and
model_manager.py of 0.32). So it gets only plain low-rank factors, with their scaling folded in; any
other adapter goes to another engine.
"""

import re
from collections.abc import Mapping, Set
from typing import Final

import torch

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.engines.edits.support import is_exact as is_understood
from hubdelta.schemas.errors import UsageError

MODEL_TYPES = frozenset(
    {
        "gemma3_text",
        "llama",
        "mistral",
        "opt",
        "phi3",
        "qwen2",
        "qwen3",
    }
)
"""Bases whose hidden states, alone and with adapters on each linear layer, equal those of
transformers according to the tests.

What is excluded, and why:

| base | why |
|---|---|
| gemma2 | vLLM caps attention logits as the model's config says; transformers' default does not |
| gpt2, gpt_neox, falcon, bloom, olmo2 | vLLM has no native class for them that supports LoRA |
| T5, BART | vLLM cannot pool a decoder's state |
| all others | not compared yet |
"""

MORE_THAN_FACTORS: Mapping[str, str] = {
    "use_dora": "a magnitude beside the factors",
    "bias": "the base's own biases, trained",
    "lora_bias": "a bias beside the factors",
    "trainable_token_indices": "other rows of the embedding",
    "target_parameters": "factors of single parameters, such as a mixture's experts",
    "fan_in_fan_out": "a base whose weights are transposed",
}
"""Settings that the stacked engine supports but vLLM does not → what they add."""

MAX_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts as max_lora_rank (vllm/config/lora.py, MaxLoRARanks)."""

_OFF: Final[tuple[object, ...]] = (None, False, "none", [], {})

_FACTOR = re.compile(re.escape(PREFIX) + r"(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")


def is_plain_lora(config: AdapterConfig) -> bool:
    """Whether a configuration describes only scaled low-rank factors."""
    return (
        config.peft_type == "LORA"
        and is_understood(config)
        and all(config.values.get(key) in _OFF for key in MORE_THAN_FACTORS)
    )


def are_plain_factors(
    tensors: Mapping[str, torch.Tensor], modules: Set[str], max_rank: int
) -> bool:
    """Whether tensors are low-rank factors of some modules and nothing else.

    Args:
        tensors: an adapter's, by saved name.
        modules: the base's names of the linear layers that vLLM applies LoRA to.
        max_rank: the largest rank allowed.
    """
    return all(
        (match := _FACTOR.fullmatch(name)) is not None
        and match["module"] in modules
        and tensor.dim() == 2
        and tensor.shape[0 if match["factor"] == "A" else 1] <= max_rank
        for name, tensor in tensors.items()
    )


def smallest_room(rank: int) -> int:
    """The smallest max_lora_rank of vLLM that holds a rank.

    Raises:
        UsageError: none does.
    """
    if rank > MAX_RANKS[-1]:
        raise UsageError(f"vLLM accepts no rank above {MAX_RANKS[-1]}")
    return min(room for room in MAX_RANKS if room >= rank)
