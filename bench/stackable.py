"""How much of what PEFT can make runs in the stacked engine: architectures times kinds.

    python bench/stackable.py [--only ARCHITECTURE,...]

Each decoder-only and encoder-decoder architecture of the installed transformers is made at a
thousandth of its size, with random weights. Each kind of adapter that PEFT can make for it is given
random values, and embedded by the reference engine. What that answers counts; of it, what the
stacked engine takes, and whether its answer is the same (fp32, relative error at most 1e-4: some
recurrent architectures are chaotic at random weights).

The last line is one JSON object: `pairs` that the reference engine answers, `stacked` of them,
`share`, those that are `wrong`, and the share by kind.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import peft
import torch
from kinds import KINDS, made
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from hubdelta.demo.base import build_base
from hubdelta.indexer.base_structure import quiet_transformers
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import use_threads
from hubdelta.indexer.settings import IndexSettings

_ROOT = Path(__file__).resolve().parent.parent
_SAME = 1e-4
_MOST_WEIGHTS = 30_000_000

_SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim_model", "lru_width"), 32),
    **dict.fromkeys(("word_embed_proj_dim",), 32),
    **dict.fromkeys(
        ("intermediate_size", "d_ff", "dff", "ffn_dim", "n_inner", "ffn_hidden_size", "dim_ff"), 64
    ),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "mamba_d_ssm"), 64),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2
    ),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_experts_per_tok"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("head_dim", "d_kv", "rotary_dim", "dim_head", "attention_head_size"), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "v_head_dim", "state_size"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_d_head", "mamba_d_state"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
    **dict.fromkeys(("num_key_value_heads", "linear_num_key_heads"), 2),
    "linear_num_value_heads": 4,
    "sliding_window": 20,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
"""Settings of configs by name, each used where a config has it."""

_LATENT: Mapping[str, Any] = {"num_key_value_heads": 4, "head_dim": None}
"""The same for multi-head latent attention, whose keys have one head for each query."""

_LINEAR = "all-linear"

_OF_PEFTS_CHOICE = ("LayerNorm tuning", "trainable tokens")
"""Kinds that are not of linear layers."""

_KINDS: Mapping[str, peft.PeftConfig] = {
    **KINDS,
    "C3A": peft.C3AConfig(block_size=8),
    "VB-LoRA": peft.VBLoRAConfig(r=4, num_vectors=16, vector_length=8),
    "RoAd": peft.RoadConfig(group_size=8),
    "OFT": peft.OFTConfig(oft_block_size=8),
    "BOFT": peft.BOFTConfig(boft_block_size=4),
    "SHiRA": peft.ShiraConfig(r=4),
    "WaveFT": peft.WaveFTConfig(n_frequency=100),
    "rsLoRA": peft.LoraConfig(r=8, use_rslora=True),
    "LoRA with biases": peft.LoraConfig(r=8, bias="all"),
    "experts": peft.LoraConfig(
        r=4, target_modules=[], target_parameters=["gate_up_proj", "up_proj", "down_proj"]
    ),
    "LayerNorm tuning": peft.LNTuningConfig(),
    "trainable tokens": peft.TrainableTokensConfig(token_indices=[1, 2, 3]),
    "prompt tuning": peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "prefix tuning": peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
}


def main() -> None:
    """Try each pair, print a line for each architecture, and one line of JSON."""
    options = _options()
    use_threads(options.threads)
    quiet_transformers()
    tokenizer = AutoTokenizer.from_pretrained(build_base(_ROOT / ".build" / "demo-base"))
    able, stacked = Counter[str](), Counter[str]()
    wrong = []
    for name, model in _models(options.only, len(tokenizer)):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            try:
                base = BaseModel.load(Path(folder), ALPACA_5)
                results = dict(_tried(base))
            except Exception as error:  # noqa: BLE001 (whatever an architecture does)
                sys.stdout.write(f"{name:24} cannot be a base: {_line(error)}\n")
                continue
        able.update(results.keys())
        stacked.update(kind for kind, error in results.items() if error is not None)
        wrong += [
            [name, kind, error]
            for kind, error in results.items()
            if error is not None and not error <= _SAME
        ]
        left = ", ".join(kind for kind, error in results.items() if error is None)
        count = sum(error is not None for error in results.values())
        sys.stdout.write(f"{name:24} {count:3} of {len(results):3}  not: {left}\n")
        sys.stdout.flush()
    figures = {
        "pairs": able.total(),
        "stacked": stacked.total(),
        "share": stacked.total() / max(1, able.total()),
        "wrong": wrong,
        "by_kind": {kind: stacked[kind] / count for kind, count in sorted(able.items())},
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _models(only: list[str] | None, words: int) -> Iterator[tuple[str, PreTrainedModel]]:
    """The architectures that can be made small, with random weights."""
    for auto, mapping in (
        (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
        (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
    ):
        for config_class in sorted(mapping, key=lambda each: str(each.model_type)):
            name = str(config_class.model_type)
            if only and name not in only:
                continue
            try:
                config = _small(config_class, words)
                with torch.device("meta"):
                    weights = auto.from_config(config).num_parameters()
                if weights > _MOST_WEIGHTS:
                    continue
                model = auto.from_config(config, dtype=torch.float32)
            except Exception as error:  # noqa: BLE001 (other names or rules for its sizes)
                sys.stdout.write(f"{name:24} was not made: {_line(error)}\n")
                continue
            torch.manual_seed(0)
            for parameter_name, parameter in model.named_parameters():
                small = parameter.dim() > 1 or parameter_name.endswith("bias")
                torch.nn.init.normal_(parameter, std=0.2 if small else 1.0)
            yield name, model


def _small(config_class: type[PreTrainedConfig], words: int) -> PreTrainedConfig:
    default = config_class()
    sizes = dict(_SIZES)
    if hasattr(default, "qk_rope_head_dim"):
        sizes |= _LATENT
    chosen = {
        key: value for key, value in sizes.items() if value is not None and hasattr(default, key)
    }
    if default.is_encoder_decoder:
        chosen["decoder_start_token_id"] = 0
    return config_class(**chosen, vocab_size=words)


def _tried(base: BaseModel) -> Iterator[tuple[str, float | None]]:
    """Each kind that the reference engine answers: how far off stacking is; None if it cannot."""
    reference = ReferenceEngine(copy.deepcopy(base))
    engine: Any = make_engine(
        base, lambda: base, IndexSettings(device="cpu", precision="fp32", engine="stacked")
    )
    stacked = getattr(engine, "_fast", None)
    for kind, config in _KINDS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layers = None if kind in _OF_PEFTS_CHOICE else _LINEAR
                (adapter,) = made(config, base, 1, layers)
        except Exception:  # noqa: BLE001, S112 (PEFT cannot make it for this architecture)
            continue
        ((_, expected),) = reference.answers([adapter])
        if not isinstance(expected, Answer):
            continue
        if stacked is None or not stacked.can_embed(adapter):
            yield kind, None
            continue
        ((_, answer),) = stacked.answers([adapter])
        if not isinstance(answer, Answer):
            yield kind, float("inf")
            continue
        off = np.linalg.norm(answer.activations - expected.activations)
        yield kind, float(off / np.linalg.norm(expected.activations))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", type=lambda text: text.split(","), help="architectures, by name")
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
