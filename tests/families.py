"""Tiny random models and adapters of them, made with transformers and PEFT and saved as they save.

A thousandth of a real model's size, but with the real classes, so that a test of mechanics takes
milliseconds. What needs a model that really learned something uses the demo's adapters.
"""

import copy
import json
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import peft
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from hubdelta.indexer.probes import ALPACA_5

_LLAMA_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_LLAMA_MLP = ("gate_proj", "up_proj", "down_proj")
_LLAMA_NORMS = ("input_layernorm", "post_attention_layernorm", "norm")
_BLOOM_ATTENTION = ("query_key_value", "dense")
_BLOOM_MLP = ("dense_h_to_4h", "dense_4h_to_h")

_WINDOW = 20
"""Tokens of sliding attention: shorter than a probe, so that it acts, yet wide enough that the last
token sees, through two layers, past the ending that all probes share."""


@dataclass(frozen=True, eq=False)
class Family:
    """An architecture, by what adapters call its parts: the last words of module names.

    Attributes:
        model_type: as config.json names it.
        attention: linear layers around attention.
        mlp: linear layers of the feed-forward part.
        embedding: of the tokens.
        norms: normalization layers, one of them after the last layer.
        layers: the list of transformer layers.
        config: what its config needs beyond the sizes that all tiny models share.
        embedding_is_shared: an encoder and a decoder look tokens up in the same table.
    """

    model_type: str
    attention: tuple[str, ...] = _LLAMA_ATTENTION
    mlp: tuple[str, ...] = _LLAMA_MLP
    embedding: str = "embed_tokens"
    norms: tuple[str, ...] = _LLAMA_NORMS
    layers: str = "layers"
    config: Mapping[str, Any] = field(default_factory=dict)
    embedding_is_shared: bool = False

    @property
    def own_embedding(self) -> tuple[str, ...]:
        """The embedding where nothing else uses its table."""
        return () if self.embedding_is_shared else (self.embedding,)

    @property
    def linear(self) -> tuple[str, ...]:
        """All linear layers that have names of their own."""
        return self.attention + self.mlp

    def __str__(self) -> str:
        return self.model_type


_T5_NORMS = ("layer_norm", "final_layer_norm")
_T5: dict[str, Any] = {
    "d_kv": 8,
    "d_ff": 64,
    "num_decoder_layers": 2,
    "decoder_start_token_id": 0,
}

_GEMMA_NORMS = (
    "input_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "norm",
)
_GEMMA: dict[str, Any] = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": _WINDOW}

FAMILIES: tuple[Family, ...] = (
    Family("llama"),
    Family("mistral", config={"sliding_window": _WINDOW}),
    Family("qwen2"),
    Family("qwen3", norms=("input_layernorm", "q_norm", "k_norm", "norm"), config={"head_dim": 8}),
    Family("gemma2", norms=_GEMMA_NORMS, config=_GEMMA),
    Family("gemma3_text", norms=("q_norm", "k_norm", *_GEMMA_NORMS), config=_GEMMA),
    Family(
        "phi3",
        attention=("qkv_proj", "o_proj"),
        mlp=("gate_up_proj", "down_proj"),
        config={"pad_token_id": 0},
    ),
    Family(  # its linear layers are Conv1D: weights stored as (in, out)
        "gpt2",
        attention=("c_attn", "attn.c_proj"),
        mlp=("c_fc", "mlp.c_proj"),
        embedding="wte",
        norms=("ln_1", "ln_2", "ln_f"),
        layers="h",
    ),
    Family(  # parallel attention
        "gpt_neox",
        attention=_BLOOM_ATTENTION,
        mlp=_BLOOM_MLP,
        embedding="embed_in",
        norms=("input_layernorm", "post_attention_layernorm", "final_layer_norm"),
    ),
    Family(
        "opt",
        attention=("q_proj", "k_proj", "v_proj", "out_proj"),
        mlp=("fc1", "fc2"),
        norms=("self_attn_layer_norm", "final_layer_norm"),
        config={"ffn_dim": 64, "word_embed_proj_dim": 32},
    ),
    Family(  # parallel attention, one key and value for all heads
        "falcon",
        attention=_BLOOM_ATTENTION,
        mlp=_BLOOM_MLP,
        embedding="word_embeddings",
        norms=("input_layernorm", "ln_f"),
        layers="h",
    ),
    Family(
        "olmo2",
        norms=(
            "post_attention_layernorm",
            "post_feedforward_layernorm",
            "q_norm",
            "k_norm",
            "norm",
        ),
    ),
    Family(  # ALiBi
        "bloom",
        attention=_BLOOM_ATTENTION,
        mlp=_BLOOM_MLP,
        embedding="word_embeddings",
        norms=("word_embeddings_layernorm", "input_layernorm", "ln_f"),
        layers="h",
        config={"n_layer": 2, "n_head": 4},
    ),
    Family(  # its experts are parameters; the shared one's layers see tokens without a batch axis
        "qwen2_moe",
        mlp=("shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert.down_proj"),
        config={
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
        },
    ),
    Family("mixtral", mlp=(), config={"num_local_experts": 4}),  # its experts are parameters
    Family(  # an encoder and a decoder with relative positions; a ReLU between two layers
        "t5",
        attention=(
            *("SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"),
            *("EncDecAttention.q", "EncDecAttention.k", "EncDecAttention.v", "EncDecAttention.o"),
        ),
        mlp=("wi", "wo"),
        norms=_T5_NORMS,
        layers="block",
        config=_T5,
        embedding_is_shared=True,
    ),
    Family(  # as FLAN-T5: gated, and an output layer with weights of its own
        "mt5",
        attention=("q", "k", "v", "o"),
        mlp=("wi_0", "wi_1", "wo"),
        norms=_T5_NORMS,
        layers="block",
        config=_T5 | {"tie_word_embeddings": False},
        embedding_is_shared=True,
    ),
    Family(  # an encoder and a decoder with learned positions, biases, scaled embeddings
        "bart",
        attention=("q_proj", "k_proj", "v_proj", "out_proj"),
        mlp=("fc1", "fc2"),
        norms=("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
        config={
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "scale_embedding": True,
        },
        embedding_is_shared=True,
    ),
)


DEEPSEEK: dict[str, Any] = {
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
"""Sizes of a tiny DeepSeek-V3, whose experts stand beside a shared one from the second layer on."""


def family(model_type: str) -> Family:
    return next(family for family in FAMILIES if family.model_type == model_type)


def make_base(folder: Path, *, model_type: str = "llama", seed: int = 0, **config: Any) -> Path:
    """A tiny language model with a word-level tokenizer that knows the probes.

    Before an encoder the tokenizer ends a text with a token of its own, as T5's does.
    """
    key = "base", model_type, seed, _as_json(config)
    return saved_once(folder, key, lambda: _make_base(folder, model_type, seed, config))


def _make_base(folder: Path, model_type: str, seed: int, config: dict[str, Any]) -> None:
    torch.manual_seed(seed)
    both = AutoConfig.for_model(model_type).is_encoder_decoder
    tokenizer = tokenizer_of_the_probes(end="</s>" if both else None)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    if not both:
        sizes["num_key_value_heads"] = 2
    model = (AutoModelForSeq2SeqLM if both else AutoModelForCausalLM).from_config(
        AutoConfig.for_model(model_type, **(sizes | config)), dtype=torch.float32
    )
    if both and not config.get("tie_word_embeddings", True):  # a T5 is made with both tied
        output = model.get_output_embeddings()
        output.weight = torch.nn.Parameter(torch.empty_like(output.weight))
    for name, parameter in model.named_parameters():
        # The usual small initialization makes hidden states that hardly depend on the input; so
        # would large biases.
        small = parameter.dim() > 1 or name.endswith("bias")
        torch.nn.init.normal_(parameter, std=0.2 if small else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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
    if config is None:
        settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
        config = peft.LoraConfig(**(settings | lora))
    name = base_name or str(base)
    settings = config.to_dict() | {"base_model_name_or_path": name}
    key = "adapter", files_of(base), _as_json(settings), seed, scale
    return saved_once(
        folder,
        key,
        lambda: save_adapter(folder, load_model(base), config, name, seed=seed, scale=scale),
    )


def _as_json(settings: Mapping[str, Any]) -> str:
    return json.dumps(
        settings, sort_keys=True, default=lambda x: sorted(x) if isinstance(x, set) else repr(x)
    )


def load_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model as transformers loads it, whichever kind of language model it is."""
    return copy.deepcopy(_loaded(files_of(folder), folder, dtype))


@lru_cache(maxsize=32)
def _loaded(_: Hashable, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng():
        return kind.from_pretrained(folder, dtype=dtype)


@dataclass(frozen=True)
class _Saved:
    """What was saved.

    Attributes:
        files: name → content.
        random: the state in which torch's random numbers were left.
    """

    files: Mapping[str, bytes]
    random: torch.Tensor


_SAVED: dict[Hashable, _Saved] = {}


def saved_once(folder: Path, key: Hashable, save: Callable[[], object]) -> Path:
    """A folder with what `save` saves in it; what has the same key is made once.

    The same content is written, and the same random numbers follow, as if it were made again.
    """
    if folder.exists() and any(folder.iterdir()):
        save()
    elif key in _SAVED:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _SAVED[key].files.items():
            (folder / name).write_bytes(content)
        torch.set_rng_state(_SAVED[key].random)
    else:
        save()
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        _SAVED[key] = _Saved(files, torch.get_rng_state())
    return folder


def files_of(folder: Path) -> Hashable:
    """Which files a folder holds; other ones where any of them was written again."""
    return folder, frozenset(
        (file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in folder.iterdir()
    )


def save_adapter(
    folder: Path,
    model: PreTrainedModel,
    config: peft.PeftConfig,
    base_name: str,
    *,
    seed: int = 0,
    scale: float = 0.1,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Wrap a model with an adapter, give all that it would train random values, and save it.

    Args:
        folder: where to.
        model: the base; changed.
        config: what to make.
        base_name: what the adapter says its base is.
        seed: of the random values.
        scale: their standard deviation.
        dtype: that the file holds.
    """
    wrap_and_save(folder, model, config, base_name, seed=seed, scale=scale, dtype=dtype)
    return folder


def wrap_and_save(
    folder: Path,
    model: PreTrainedModel,
    config: peft.PeftConfig,
    base_name: str,
    *,
    seed: int,
    scale: float,
    dtype: torch.dtype,
) -> peft.PeftModel:
    """The model that `save_adapter` wraps and saves, still with the values that it was given."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT asks the Hub about the base by name, and says that this one is not there.
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, config)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=scale)
        wrapped.peft_config["default"].base_model_name_or_path = base_name
        # Its README takes longer than all else.
        wrapped.create_or_update_model_card = lambda _: None
        weights = wrapped.state_dict()
        stored = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in weights.items()
        }
        wrapped.save_pretrained(folder, state_dict=stored)
    return wrapped


def tokenizer_of_the_probes(end: str | None = None) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows the words of the probes, and a token that ends a text."""
    split = pre_tokenizers.Whitespace()
    words = {word for prompt in ALPACA_5.prompts for word, _ in split.pre_tokenize_str(prompt)}
    known = ["<unk>", *sorted(words), *([end] if end else [])]
    tokenizer = Tokenizer(models.WordLevel(_numbered(known), "<unk>"))
    tokenizer.pre_tokenizer = split
    if end:
        place = tokenizer.token_to_id(end)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, place)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token=end)


def _numbered(words: Iterable[str]) -> dict[str, int]:
    return {word: number for number, word in enumerate(words)}
