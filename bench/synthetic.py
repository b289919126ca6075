"""A base and adapters of random numbers in a real model's shape, made without a download."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.base_structure import layer_shapes
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.edits.structure import structural_copy
from hubdelta.schemas.keys import AdapterKey

SIZES: dict[str, dict[str, Any]] = {
    "llama-8b": {  # config.json of Llama-3.1-8B, but for rope_scaling, which costs nothing
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "rms_norm_eps": 1e-5,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 500,
        "rms_norm_eps": 1e-5,
    },
}
"""Name → arguments of LlamaConfig."""

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_PROBE_LENGTHS = (44, 39, 43, 42, 44)
"""Tokens of each probe of ALPACA_5 with Llama 3's tokenizer, including BOS, estimated since no
tokenizer can be downloaded."""

_COMMON_ENDING = 19
"""How many last tokens all probes of ALPACA_5 share."""


def make_base(size: str, device: torch.device) -> BaseModel:
    """A Llama with random weights: made on the device, then held in host memory like a stored one.

    Weights have a standard deviation of .02 (a narrower model's have more, so that W x keeps its
    size), those that end in the residual stream 1/√(2·layers) of that, as in GPT-2, and embeddings
    have 1. With .02 everywhere each layer would replace the stream instead of adjusting it; such a
    model amplifies rounding ten times as much as trained ones do, and `auto` would find no fast
    precision good enough. The probes are fixed random tokens with ALPACA_5's lengths and its
    common ending.

    Returns:
        In bf16 for a GPU, in fp32 for a CPU.
    """
    config = LlamaConfig(**SIZES[size], tie_word_embeddings=False, bos_token_id=0, eos_token_id=1)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    std = 0.02 * (4096 / config.hidden_size) ** 0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.normal_(std=std / (2 * config.num_hidden_layers) ** 0.5)
            elif parameter.dim() > 1:
                parameter.normal_(std=1.0 if "embed" in name else std)
    return BaseModel(Path(size), model.cpu(), layer_shapes(model), _probes(config.vocab_size))


def on_device(base: BaseModel, device: torch.device) -> BaseModel:
    """The base in fp32 on a device, as the reference engine takes it; a GPU gets a copy."""
    if device.type == "cpu":
        return base

    def placed(tensor: torch.Tensor) -> torch.Tensor:
        there = tensor.detach().to(device)
        there = there.float() if tensor.is_floating_point() else there
        is_own = isinstance(tensor, torch.nn.Parameter)
        return torch.nn.Parameter(there, requires_grad=False) if is_own else there

    return replace(
        base,
        model=structural_copy(base.model, placed),
        probes=tuple(probe.to(device) for probe in base.probes),
    )


def _probes(vocabulary: int) -> tuple[torch.Tensor, ...]:
    tokens = torch.Generator().manual_seed(1)
    start = torch.zeros(1, 1, dtype=torch.int64)
    ending = torch.randint(2, vocabulary, (1, _COMMON_ENDING), generator=tokens)
    return tuple(
        torch.cat(
            [
                start,
                torch.randint(2, vocabulary, (1, n - 1 - _COMMON_ENDING), generator=tokens),
                ending,
            ],
            dim=1,
        )
        for n in _PROBE_LENGTHS
    )


@dataclass(frozen=True)
class Kind:
    """What the adapters of a pool have in common.

    Attributes:
        name: for tables.
        ranks: taken in turn.
        dora: whether they have magnitudes.
    """

    name: str
    ranks: tuple[int, ...]
    dora: bool = False


class Pool:
    """Any number of different adapters out of a few sets of bf16 tensors in host memory.

    An adapter takes each layer's tensors from another set, by a stride of its own, and has its own
    alpha. A is as PEFT starts it, B has a standard deviation of .01, magnitudes differ from the
    norms of the base's rows by 2%.

    Args:
        base: the base.
        kind: what they are.
        sets: sets of tensors; a multiple of the number of ranks.
        device: makes the numbers, faster than a CPU.

    Attributes:
        kind: what they are.
        alpha: lora_alpha at a rank of 16; that of others is in proportion, each within a half.
    """

    def __init__(self, base: BaseModel, kind: Kind, sets: int, device: torch.device) -> None:
        if sets % len(kind.ranks):
            raise ValueError(f"{sets} sets cannot have {len(kind.ranks)} ranks equally often")
        self.kind, self.alpha = kind, 16.0
        torch.manual_seed(2)
        norms = _row_norms(base, device) if kind.dora else {}
        ranks = (kind.ranks[place % len(kind.ranks)] for place in range(sets))
        self._sets = [_random_layers(base, rank, norms, device) for rank in ranks]

    def adapter(self, place: int) -> PeftAdapter:
        """The adapter with a number, always the same."""
        sets, ranks = len(self._sets), self.kind.ranks
        stride = len(ranks) * (1 + place // sets)
        tensors = {
            name: tensor
            for layer in range(len(self._sets[0]))
            for name, tensor in self._sets[(place + layer * stride) % sets][layer].items()
        }
        rank = ranks[place % len(ranks)]
        values = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": rank,
            "lora_alpha": self.alpha * rank / 16 * random.Random(place).uniform(0.5, 1.5),
            "target_modules": list(TARGETS),
            "use_dora": self.kind.dora,
        }
        return PeftAdapter(
            AdapterKey(f"bench/{self.kind.name}-{place}", "", "0" * 40),
            AdapterConfig("LORA", values),
            tensors,
            sum(tensor.nbytes for tensor in tensors.values()),
        )

    def adapters(self, places: Iterable[int]) -> list[PeftAdapter]:
        """The adapters with these numbers."""
        return [self.adapter(place) for place in places]


def _random_layers(
    base: BaseModel, rank: int, norms: Mapping[str, torch.Tensor], device: torch.device
) -> list[dict[str, torch.Tensor]]:
    """One adapter's tensors, layer by layer; with magnitudes where norms are given."""
    layers: dict[int, dict[str, torch.Tensor]] = {}
    for name, (out_features, in_features) in _adapted(base).items():
        down = torch.randn(rank, in_features, device=device) / (3 * in_features) ** 0.5
        up = torch.randn(out_features, rank, device=device) * 0.01
        tensors = {"lora_A.weight": down.bfloat16(), "lora_B.weight": up.bfloat16()}
        if name in norms:
            change = 1 + 0.02 * torch.randn(out_features, device=device)
            tensors["lora_magnitude_vector"] = norms[name] * change
        layers.setdefault(_layer(name), {}).update(
            {f"{PREFIX}{name}.{part}": tensor.cpu() for part, tensor in tensors.items()}
        )
    return [layers[layer] for layer in sorted(layers)]


def _row_norms(base: BaseModel, device: torch.device) -> dict[str, torch.Tensor]:
    """Norm of each row of each W [out_features], where DoRA's magnitudes start."""
    weights = {name: base.model.get_submodule(name).weight.detach() for name in _adapted(base)}
    return {
        name: torch.linalg.vector_norm(weight.to(device), dim=1, dtype=torch.float32)
        for name, weight in weights.items()
    }


def dense_flops(base: BaseModel) -> float:
    """FLOPs of the base's dense products that one adapter cannot do without.

    Every token needs every layer, but of the last layer only keys and values: what follows acts
    on each token by itself, and only the probes' last ones are wanted. Attention's own products,
    norms and activations are not counted.
    """
    return sum(2.0 * a * b * tokens for a, b, tokens in _products(base))


def low_rank_flops(base: BaseModel, rank: float) -> float:
    """FLOPs of an adapter's own products on all those layers, beside the base's."""
    return sum(2.0 * rank * (a + b) * tokens for a, b, tokens in _products(base))


def _products(base: BaseModel) -> Iterator[tuple[int, int, int]]:
    """Out_features, in_features and tokens of each dense layer below the hidden state."""
    adapted = _adapted(base)
    last = max(map(_layer, adapted))
    tokens = sum(probe.shape[1] for probe in base.probes)
    for name, (out_features, in_features) in adapted.items():
        trimmed = _layer(name) == last and not name.endswith(("k_proj", "v_proj"))
        yield out_features, in_features, len(base.probes) if trimmed else tokens


def _adapted(base: BaseModel) -> dict[str, tuple[int, int]]:
    return {name: shape for name, shape in base.shapes.items() if name.endswith(TARGETS)}


def _layer(name: str) -> int:
    """The number of the layer that a module belongs to."""
    return int(re.findall(r"\.(\d+)\.", name)[0])
