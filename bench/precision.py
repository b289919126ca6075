"""How much signal a delta needs: cosine to fp32 of the demo's adapters, scaled down step by step.

    python bench/precision.py [--base FOLDER] [--adapters DIR] [--device cpu|cuda]

Each adapter is embedded at several strengths, in fp32 and in each faster precision, against the
base in the same precision. A delta's signal is its norm over the noise floor that the engine
measured. The bound for "good" is the smallest signal from which on no cosine is below .999; the
engine's GOOD_SIGNAL must not be below it. The last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubdelta.demo.base import build_base
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.routing import load_base
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.precision import GOOD_SIGNAL
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.keys import AdapterKey

_ROOT = Path(__file__).resolve().parent.parent
_STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_WANTED = 0.999


def adapters(folder: Path, limit: int) -> list[PeftAdapter]:
    """The LoRA adapters below a folder."""
    found = sorted(file.parent for file in folder.rglob("adapter_config.json"))
    return [
        PeftAdapter(
            AdapterKey(str(place), "", "0" * 40),
            AdapterConfig.read(place / "adapter_config.json"),
            read_tensors([place / "adapter_model.safetensors"]),
            weight_bytes=0,
        )
        for place in found[:limit]
    ]


def scaled(adapter: PeftAdapter, strength: float) -> PeftAdapter:
    """An adapter whose change of every weight is so much weaker."""
    tensors = {
        name: tensor * strength if ".lora_B." in name else tensor
        for name, tensor in adapter.tensors.items()
    }
    return replace(adapter, tensors=tensors)


def embedded(
    base: BaseModel, pool: list[PeftAdapter], device: str, precision: str
) -> tuple[list[Answer], float]:
    """Answers in the order of the pool, and the engine's noise floor."""
    engine = StackedEngine(base, device=device, precision=precision)
    answers = dict(engine.answers(pool))
    return [answers[place] for place in range(len(pool))], engine.baseline(precision).noise_floor


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Cosine of two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, default=_ROOT / ".build" / "demo-base")
    parser.add_argument("--adapters", type=Path, default=_ROOT / "demo" / "hub")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=6, help="adapters")
    options = parser.parse_args()
    build_base(options.base)
    use_threads(None)
    keep_freed_memory()
    base = load_base(options.base, ALPACA_5, IndexSettings(device=options.device))
    pool = [
        scaled(adapter, strength)
        for strength in _STRENGTHS
        for adapter in adapters(options.adapters, options.limit)
    ]
    exact, floor = embedded(base, pool, options.device, "fp32")
    norm = float(np.linalg.norm(exact[0].baseline.activations.mean(axis=0)))
    print(f"fp32: noise floor {floor:.2e}, base activation {norm:.1f}")
    bounds = {}
    for precision in ("fp16", "bf16", *(["tf32"] if options.device != "cpu" else [])):
        answers, floor = embedded(base, pool, options.device, precision)
        points = sorted(
            (answer.signal, cosine(answer.delta, true.delta), float(np.linalg.norm(true.delta)))
            for answer, true in zip(answers, exact, strict=True)
        )
        bad = [signal for signal, cos, _ in points if cos < _WANTED]
        bounds[precision] = max(bad, default=0.0)
        print(
            f"{precision}: noise floor {floor:.2e}; not good up to signal {bounds[precision]:.1f}"
        )
        print("  |delta|/|h|   signal    cosine to fp32")
        for signal, cos, size in points[:: options.limit // 2]:
            print(f"  {size / norm:11.5f} {signal:8.1f}    {cos:.6f}")
    print(
        json.dumps(
            {
                "good_signal": GOOD_SIGNAL,
                "not_good_up_to": bounds,
                "bound_holds": max(bounds.values()) <= GOOD_SIGNAL,
            }
        )
    )


if __name__ == "__main__":
    main()
