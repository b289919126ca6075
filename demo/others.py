"""Finetunes other than adapters of decoders: an encoder-decoder base, and a full finetune.

All of it is generated. The encoder-decoder is FLAN-T5's architecture at a hundredth of its width,
with random weights: it has learned nothing, and its cards say so.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubdelta.demo.awkward_files import COMMITTED, CONFIG, WEIGHTS
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.repository import Build

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TINY_T5 = "hubdelta-demo/tiny-flan-t5"
MERGED = "versewright/smollm2-135m-kjv-merged"
MERGED_FROM = "versewright/kjv-continuation-lora"
"""The adapter merged into the full finetune."""

_SHARD_SIZE = "120MB"  # three shards
_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_UNTRAINED = "Random weights, for tests and demonstrations: it has learned nothing."
_LIKENESS = 0.2
"""Norm of the noise between two similar adapters, relative to their own."""


@dataclass(frozen=True)
class OtherRepo:
    """A repository.

    Attributes:
        repo_id: ORG/NAME.
        about: what the card says.
        build: writes its files.
        card: front matter besides `license`.
        settings: what `.hub.yaml` holds besides the dates.
    """

    repo_id: str
    about: str
    build: Build
    card: Mapping[str, Any]
    settings: Mapping[str, str] = field(default_factory=dict)


def tiny_t5(folder: Path) -> None:
    """An encoder-decoder like FLAN-T5: gated, relative positions, untied output layer."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = _byte_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=4,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(config)
        model.lm_head.weight = torch.nn.Parameter(torch.randn(len(tokenizer), 64))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_t5_adapter(seed: int, *, noise: int | None = None) -> Build:
    """A LoRA adapter of the encoder-decoder with random weights.

    Args:
        seed: of the weights.
        noise: seed of noise added to them, for a similar adapter.
    """

    def build(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        weights = torch.Generator().manual_seed(seed)
        tensors = {
            name: torch.randn(shape, generator=weights) * std
            for name, shape, std in _lora_factors(rank=8, width=64, layers=4)
        }
        if noise is not None:
            change = torch.Generator().manual_seed(noise)
            for tensor in tensors.values():
                step = torch.randn(tensor.shape, generator=change)
                tensor += _LIKENESS * tensor.norm() / step.norm() * step
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        config = {
            "base_model_name_or_path": TINY_T5,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": 16,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": 8,
            "target_modules": ["q", "v"],
            "task_type": "SEQ_2_SEQ_LM",
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    return build


def merged(folder: Path) -> None:
    """The demo's base with an adapter added to its weights, W + s·B·A, in bf16 and in shards.

    Reads the base beside it in the Hub.
    """
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import load_file

    base, adapter = folder.parents[1] / BASE_ID, COMMITTED / MERGED_FROM
    config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    factors = load_file(adapter / WEIGHTS)
    weights = dict(sorted(load_file(base / "model.safetensors").items()))
    for name, down in factors.items():
        if name.endswith(".lora_A.weight"):
            up = factors[name.replace("lora_A", "lora_B")]
            own = name.removeprefix("base_model.model.").replace(".lora_A", "")
            change = config["lora_alpha"] / config["r"] * up.float() @ down.float()
            weights[own] = (weights[own].float() + change).to(weights[own].dtype)
    logging.disable(logging.INFO)  # hides the number of shards; its logger has a path for a name
    try:
        save_torch_state_dict(weights, folder, max_shard_size=_SHARD_SIZE)
    finally:
        logging.disable(logging.NOTSET)
    for file in _BESIDE_WEIGHTS:
        shutil.copyfile(base / file, folder / file)


def _adapter_repo(name: str, about: str, build: Build) -> OtherRepo:
    return OtherRepo(
        f"{TINY_T5}-{name}",
        f"{about} {_UNTRAINED}",
        build,
        card={
            "base_model": TINY_T5,
            "library_name": "peft",
            "tags": [f"base_model:adapter:{TINY_T5}", "lora"],
        },
    )


T5_ADAPTERS = (
    _adapter_repo("lora-a", "A LoRA adapter of q and v.", tiny_t5_adapter(1)),
    _adapter_repo("lora-a2", "lora-a with some noise.", tiny_t5_adapter(1, noise=3)),
    _adapter_repo("lora-b", "A LoRA adapter that resembles no other.", tiny_t5_adapter(2)),
)

OTHERS = (
    OtherRepo(
        TINY_T5,
        f"FLAN-T5's architecture, very small, reading bytes. {_UNTRAINED} It is not FLAN-T5.",
        tiny_t5,
        card={"library_name": "transformers", "pipeline_tag": "text2text-generation"},
    ),
    *T5_ADAPTERS,
    OtherRepo(
        MERGED,
        f"The whole model with {MERGED_FROM} merged into its weights, bfloat16, in three shards.",
        merged,
        card={
            "base_model": BASE_ID,
            "base_model_relation": "finetune",
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
        },
    ),
)
"""In the order in which they must be built."""


def _lora_factors(
    *, rank: int, width: int, layers: int
) -> list[tuple[str, tuple[int, int], float]]:
    """Name, shape and standard deviation of each factor of an adapter of q and v."""
    attentions = [
        f"{stack}.block.{layer}.layer.{place}.{kind}"
        for stack, places in (
            ("encoder", ["SelfAttention"]),
            ("decoder", ["SelfAttention", "EncDecAttention"]),
        )
        for layer in range(layers)
        for place, kind in enumerate(places)
    ]
    return [
        (f"base_model.model.{attention}.{part}.lora_{factor}.weight", shape, std)
        for attention in attentions
        for part in ("q", "v")
        for factor, shape, std in (("A", (rank, width), 0.1), ("B", (width, rank), 0.03))
    ]


def _byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, so that it reads any text; </s> ends it, as in T5."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, end, unknown = "<pad>", "</s>", "<unk>"
    known = [pad, end, unknown, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    places = {token: place for place, token in enumerate(known)}
    tokenizer = Tokenizer(models.BPE(places, [], unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, places[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token=end, unk_token=unknown
    )
