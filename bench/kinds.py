"""The kinds of adapters that the stacked engine computes, beside the reference engine.

    python bench/kinds.py [--base FOLDER] [--adapters N] [--only KIND,...]

For each kind PEFT makes some adapters of q, k, v and o with random values, and some of the experts
of a small random mixture. Both engines embed them in fp32, in one process with the
same threads: the stacked engine in one batch, the reference engine one at a time. A kind belongs in
`support.UNDERSTOOD` if it is exact and faster there.

The last line is one JSON object: for each kind the adapters per second of both, `speedup`, and
the least cosine between their deltas.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

# Before torch is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import numpy.typing as npt
import peft
import torch
from rates import machine
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig

from hubdelta.demo.base import build_base
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Engine
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.keys import AdapterKey

_ROOT = Path(__file__).resolve().parent.parent
_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj"]
_SPREAD = 0.05
"""Standard deviation of the random values."""

KINDS: Mapping[str, peft.PeftConfig] = {
    "LoRA": peft.LoraConfig(r=8),
    "DoRA": peft.LoraConfig(r=8, use_dora=True),
    "IA3": peft.IA3Config(feedforward_modules=[]),
    "VeRA": peft.VeraConfig(r=64),
    "LoHa": peft.LoHaConfig(r=4),
    "LoKr": peft.LoKrConfig(r=8),
    "AdaLoRA": peft.AdaLoraConfig(init_r=8, total_step=10),
    "DeLoRA": peft.DeloraConfig(r=8),
    "GraLoRA": peft.GraloraConfig(r=8),
    "MiSS": peft.MissConfig(r=8),
    "HRA": peft.HRAConfig(r=8),
    "VB-LoRA": peft.VBLoRAConfig(r=4, num_vectors=90, vector_length=64),
    "HiRA": peft.HiraConfig(r=8),
    "C3A": peft.C3AConfig(block_size=64),
    "FourierFT": peft.FourierFTConfig(n_frequency=1000),
    "RandLoRA": peft.RandLoraConfig(r=32, randlora_alpha=32),
    "OFT": peft.OFTConfig(oft_block_size=32),
    "BOFT": peft.BOFTConfig(boft_block_size=32),
    "SHiRA": peft.ShiraConfig(r=8),
    "WaveFT": peft.WaveFTConfig(n_frequency=1000),
    "RoAd": peft.RoadConfig(group_size=64),
}

_EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]

OF_EXPERTS: Mapping[str, peft.PeftConfig] = {
    "experts": peft.LoraConfig(r=8, target_modules=[], target_parameters=_EXPERTS),
    "experts and attention": peft.LoraConfig(
        r=8, target_modules=_LAYERS, target_parameters=_EXPERTS
    ),
}


def main() -> None:
    """Measure, print a table, and one line of JSON."""
    options = _options()
    use_threads(options.threads)
    keep_freed_memory()
    folder = options.base or build_base(_ROOT / ".build" / "demo-base")
    figures = _figures(
        {name: KINDS[name] for name in options.only if name in KINDS}, folder, options
    )
    with tempfile.TemporaryDirectory() as mixture:
        _save_mixture(Path(mixture), folder)
        of_experts = {name: OF_EXPERTS[name] for name in options.only if name in OF_EXPERTS}
        figures |= _figures(of_experts, Path(mixture), options)
    sys.stdout.write(json.dumps({"machine": machine(), "kinds": figures}) + "\n")


def _save_mixture(folder: Path, tokenizer: Path) -> None:
    """A random mixture of experts: 12 layers, 16 experts each, of which a token sees four."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = Qwen3MoeConfig(
        vocab_size=len(words),
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=64,
        num_experts=16,
        num_experts_per_tok=4,
        moe_intermediate_size=192,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)


def _figures(
    kinds: Mapping[str, peft.PeftConfig], folder: Path, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """The rates of both engines for each kind, by its name."""
    if not kinds:
        return {}
    base = BaseModel.load(folder, ALPACA_5)
    stacked, reference = StackedEngine(base), ReferenceEngine(copy.deepcopy(base))
    figures = {}
    for kind, config in kinds.items():
        adapters = made(config, base, options.adapters, list(_LAYERS))
        _deltas(stacked, adapters[:1])
        fast, fast_seconds = _deltas(stacked, adapters)
        one = adapters[: options.one_by_one]
        exact, exact_seconds = _deltas(reference, one)
        rates = len(adapters) / fast_seconds, len(one) / exact_seconds
        cosine = min(_cosine(*pair) for pair in zip(fast, exact, strict=False))
        sys.stdout.write(
            f"{kind:10} stacked {rates[0]:6.2f}/s  reference {rates[1]:6.2f}/s  "
            f"{rates[0] / rates[1]:6.1f} times  cosine {cosine:.9f}\n"
        )
        sys.stdout.flush()
        figures[kind] = {
            "stacked_per_second": rates[0],
            "reference_per_second": rates[1],
            "speedup": rates[0] / rates[1],
            "cosine_min": cosine,
        }
    return figures


def made(
    config: peft.PeftConfig, base: BaseModel, count: int, layers: list[str] | str | None
) -> list[PeftAdapter]:
    """Adapters of a kind with random values, as PEFT saves them.

    Args:
        config: the kind.
        base: their base; unchanged.
        count: how many.
        layers: what they adapt, if the kind does not say; None for PEFT's choice.
    """
    adapters = []
    for seed in range(count):
        torch.manual_seed(seed)
        own = copy.deepcopy(config)
        if layers is not None and getattr(own, "target_modules", layers) is None:
            own.target_modules = layers
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the base's name, which PEFT asks the Hub for
            wrapped = peft.get_peft_model(copy.deepcopy(base.model), own)
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, std=_SPREAD)
            wrapped.create_or_update_model_card = lambda _: None
            wrapped.save_pretrained(folder)
            place = Path(folder)
            adapters.append(
                PeftAdapter(
                    AdapterKey(f"{own.peft_type}/{seed}", "", "0" * 40),
                    AdapterConfig.read(place / CONFIG_FILE),
                    read_tensors([place / "adapter_model.safetensors"]),
                    weight_bytes=0,
                )
            )
    return adapters


def _deltas(
    engine: Engine, adapters: Sequence[PeftAdapter]
) -> tuple[list[npt.NDArray[np.float32]], float]:
    """Deltas in the order of the adapters, and the seconds that they took."""
    started = time.perf_counter()
    answers = dict(engine.answers(adapters))
    seconds = time.perf_counter() - started
    deltas = []
    for place in range(len(adapters)):
        answer = answers[place]
        if isinstance(answer, AdapterError):
            raise RuntimeError(f"{adapters[place].key}: {answer}")
        deltas.append(answer.delta)
    return deltas, seconds


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="transformers folder; default: the demo's base")
    parser.add_argument("--adapters", type=int, default=12, help="of each kind")
    parser.add_argument("--one-by-one", type=int, default=3, help="of them by the reference engine")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[*KINDS, *OF_EXPERTS],
        help="kinds, by name",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
