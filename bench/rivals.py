"""Delta Activations beside LLM-DNA on the demo's adapters: scores, and seconds a model.

    python bench/rivals.py --llm-dna ENV/bin/python --sentence-model FOLDER

ENV is an environment of its own with `pip install llm-dna`. LLM-DNA embeds whole models by what
they answer to prompts of random words (its dataset `rand`): 128 numbers a model, here with its
defaults except for fewer and shorter answers, which a CPU needs, and a smaller sentence encoder.
It takes no adapters, so each is merged into the base first, which is not timed. The published code
of the paper and hubdelta's stacked engine embed the same adapters with the same threads.

The last line is one JSON object: for each rival the silhouette with its interval, retrieval, and
seconds a model.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while waiting slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import numpy.typing as npt
import peft
import torch
from engines import embed, published
from rates import machine
from transformers import AutoModelForCausalLM, AutoTokenizer

from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.base import build_base
from hubdelta.demo.pool import SINGLE
from hubdelta.evaluation.scores import Scores, score
from hubdelta.evaluation.similarity import cosines
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import use_threads

Vectors = npt.NDArray[np.float64]

_ROOT = Path(__file__).resolve().parent.parent

# Runs in LLM-DNA's environment: one model, so that none inherits what another one left.
_EXTRACT = """
import json, sys
from llm_dna.api import DNAExtractionConfig, calc_dna
asked = json.loads(sys.argv[1])
found = calc_dna(DNAExtractionConfig(**asked))
print(json.dumps({"seconds": found.elapsed_seconds, "vector": found.vector.tolist()}))
"""


def merged(base: Path, adapter: Path, into: Path) -> None:
    """Write the base with an adapter merged into its weights, as a model that LLM-DNA loads."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft.PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(into)
    AutoTokenizer.from_pretrained(base).save_pretrained(into)


def llm_dna(options: argparse.Namespace, base: Path, folders: list[Path]) -> tuple[Vectors, float]:
    """LLM-DNA's vectors [adapters, 128], and its median seconds a model."""
    vectors, seconds = [], []
    with tempfile.TemporaryDirectory() as place:
        for folder in folders:
            model = Path(place, folder.parent.name, folder.name)
            merged(base, folder, model)
            asked = {
                "model_name": f"{folder.parent.name}/{folder.name}",
                "model_path": str(model),
                "dataset": "rand",
                "max_samples": options.probes,
                "max_length": options.tokens,
                "sentence_encoder": str(options.sentence_model.resolve()),
                "data_root": f"{place}/data",
                "device": "cpu",
                "trust_remote_code": False,
                "metadata_file": None,
                "save": False,
            }
            done = subprocess.run(  # noqa: S603 (the Python that the user names)
                [options.llm_dna, "-c", _EXTRACT, json.dumps(asked)],
                cwd=place,
                env=os.environ | {"HF_HUB_OFFLINE": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"llm-dna failed: {done.stderr[-2000:]}")
            answer = json.loads(done.stdout.splitlines()[-1])
            vectors.append(answer["vector"])
            seconds.append(answer["seconds"])
            sys.stderr.write(f"llm-dna: {folder.name}: {answer['seconds']:.1f} s\n")
    # The first model's time holds the making of the random prompts.
    return np.array(vectors), statistics.median(seconds)


def told(scores: Scores, seconds: float) -> dict[str, Any]:
    """The figures of one rival."""
    return {
        "silhouette": asdict(scores.silhouette),
        "retrieval": scores.retrieval,
        "seconds_a_model": seconds,
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--llm-dna", required=True, help="Python of the environment of llm-dna")
    parser.add_argument("--sentence-model", type=Path, required=True, help="sentence encoder")
    parser.add_argument("--base", type=Path, default=_ROOT / ".build" / "demo-base")
    parser.add_argument("--probes", type=int, default=16, help="prompts; its default is 600")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer; its default is 1024")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    use_threads(threads)

    folder = build_base(options.base)
    folders = [COMMITTED / adapter.repo_id for adapter in SINGLE]
    labels = [adapter.domains[0] for adapter in SINGLE]
    base = BaseModel.load(folder, ALPACA_5)
    rivals: dict[str, tuple[Vectors, float]] = {}
    deltas, seconds = embed(StackedEngine(base, device="cpu", precision="fp32"), folders)
    rivals["hubdelta, stacked engine"] = np.array(deltas), seconds / len(folders)
    deltas, seconds = published(base, folders)
    rivals["the paper's code"] = np.array(deltas), seconds / len(folders)
    rivals["llm-dna"] = llm_dna(options, folder, folders)

    figures = {}
    for name, (vectors, seconds) in rivals.items():
        figures[name] = told(score(cosines(vectors @ vectors.T), labels), seconds)
    for name, one in figures.items():
        silhouette = one["silhouette"]
        print(
            f"{name}: silhouette {silhouette['value']:.3f} ({silhouette['low']:.2f} to "
            f"{silhouette['high']:.2f}), retrieval {one['retrieval']:.2f}, "
            f"{one['seconds_a_model']:.2f} s a model"
        )
    settings = {"probes": options.probes, "tokens": options.tokens, "threads": threads}
    print(json.dumps({"machine": machine(), **settings, "rivals": figures}))


if __name__ == "__main__":
    main()
