"""How near deltas in each precision are to fp32: the demo's adapters, scaled down step by step.

    python bench/precision.py [--base FOLDER] [--adapters DIR] [--device cpu|cuda] [--limit N]

Each adapter is embedded at several strengths, in fp32 and in each faster precision, against the
base in the same precision. The last line is one JSON object: precision -> the least cosine to fp32
at each strength, and whether all are what `auto` wants, beside what the engine measures by itself
when a base is loaded, on edits that it makes.
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
from hubdelta.indexer.engines.engine import Answer
from hubdelta.indexer.engines.routing import load_base
from hubdelta.indexer.engines.stacked.accuracy import STRENGTHS, Trials
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.precision import CLOSE_ENOUGH
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.keys import AdapterKey

_ROOT = Path(__file__).resolve().parent.parent


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


def embedded(engine: StackedEngine, pool: list[PeftAdapter]) -> list[Answer]:
    """Answers in the order of the pool."""
    answers = dict(engine.answers(pool))
    return [answers[place] for place in range(len(pool))]


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
    found = adapters(options.adapters, options.limit)
    pool = [scaled(adapter, strength) for strength in STRENGTHS for adapter in found]
    reference = StackedEngine(base, device=options.device, precision="fp32")
    exact = embedded(reference, pool)
    norm = float(np.linalg.norm(exact[0].baseline.activations.mean(axis=0)))
    trials = Trials(reference.model)
    least: dict[str, list[float]] = {}
    for precision in ("fp16", "bf16", *(["tf32"] if options.device != "cpu" else [])):
        engine = StackedEngine(base, device=options.device, precision=precision)
        answers = embedded(engine, pool)
        cosines = [cosine(a.delta, b.delta) for a, b in zip(answers, exact, strict=True)]
        least[precision] = []
        print(f"{precision}: by the engine's own trial {trials.of(precision).cosine:.6f}")
        print("  strength   |delta|/|h|   least cosine to fp32")
        for number, strength in enumerate(STRENGTHS):
            part = slice(number * len(found), (number + 1) * len(found))
            sizes = [float(np.linalg.norm(answer.delta)) / norm for answer in exact[part]]
            least[precision].append(min(cosines[part]))
            print(f"  {strength:8g} {max(sizes):13.5f}   {least[precision][-1]:.6f}")
    print(
        json.dumps(
            {
                "strengths": STRENGTHS,
                "least_cosine": least,
                "close_enough": {name: min(each) >= CLOSE_ENOUGH for name, each in least.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
