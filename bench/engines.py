"""Adapters per second on this machine: the published algorithm, `reference`, `stacked`, the limit.

    python bench/engines.py [--base FOLDER] [--adapters DIR] [--pool N]

All contenders get the same base, probes and threads, in one process. The published algorithm (arXiv
2509.04442, as in its script): for each adapter the model is built again, PEFT inserts the adapter,
and the probes run one at a time. The pool of the stacked engine is the demo's adapters, each
several times with other weights. The limit is what the base's own dense products alone would take
at the matrix rate measured between the engine's rounds, at the model's own shapes.

The last line is one JSON object. `speedup_over_published` and `share_of_limit` are ratios, the only
figures that carry over to another machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while waiting slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel
from rates import machine, matrix_rate
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

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

Vector = npt.NDArray[np.float64]

_ROOT = Path(__file__).resolve().parent.parent
_WEIGHTS = "adapter_model.safetensors"
_ROUNDS = 3
_SLOW_ADAPTERS = 4  # of the published algorithm and the reference engine
_LIMIT_ROWS = 2048


@dataclass(frozen=True)
class Figures:
    """The results of one run; rates in adapters per second."""

    machine: str
    threads: int
    pool: int
    published_rate: float
    reference_rate: float
    stacked_rate: float
    index_rate: float
    limit_rate: float
    matrix_gflops: float
    speedup_over_published: float
    share_of_limit: float
    least_cosine_to_published: float


def read(folder: Path) -> PeftAdapter:
    """The adapter in a folder."""
    return PeftAdapter(
        AdapterKey(str(folder), "", "0" * 40),
        AdapterConfig.read(folder / CONFIG_FILE),
        read_tensors([folder / _WEIGHTS]),
        weight_bytes=(folder / _WEIGHTS).stat().st_size,
    )


def make_pool(originals: Sequence[Path], size: int, into: Path) -> list[Path]:
    """Folders of as many adapters, each an original with noise of a tenth in its weights."""
    generator = torch.Generator().manual_seed(0)
    folders = []
    for number in range(size):
        original = originals[number % len(originals)]
        folder = into / f"adapter-{number:04d}"
        folder.mkdir()
        (folder / CONFIG_FILE).write_bytes((original / CONFIG_FILE).read_bytes())
        tensors = {
            name: tensor + 0.1 * tensor.std() * torch.randn(tensor.shape, generator=generator)
            for name, tensor in read_tensors([original / _WEIGHTS]).items()
        }
        save_file(tensors, folder / _WEIGHTS)
        folders.append(folder)
    return folders


def published(base: BaseModel, folders: Sequence[Path]) -> tuple[list[Vector], float]:
    """The published computation: vectors [hidden], and seconds without the base's own pass."""

    def mean_hidden_state(model: Any) -> Vector:
        with torch.no_grad():
            outputs = [model(input_ids=p, output_hidden_states=True) for p in base.probes]
        states = [output.hidden_states[-1][0, -1].numpy() for output in outputs]
        return np.mean(np.array(states, np.float64), axis=0)

    def build() -> Any:
        return AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32).eval()

    base_state = mean_hidden_state(build())
    started = time.perf_counter()
    vectors = [
        mean_hidden_state(PeftModel.from_pretrained(build(), folder).eval()) - base_state
        for folder in folders
    ]
    return vectors, time.perf_counter() - started


def embed(engine: Engine, folders: Sequence[Path]) -> tuple[list[Vector], float]:
    """An engine's vectors, and the seconds that it took from tensors in memory."""
    adapters = [read(folder) for folder in folders]
    started = time.perf_counter()
    answers = dict(engine.answers(adapters))
    seconds = time.perf_counter() - started
    deltas = []
    for place, folder in enumerate(folders):
        answer = answers[place]
        if isinstance(answer, AdapterError):
            raise SystemExit(f"{folder}: {answer}")
        deltas.append(answer.delta)
    return deltas, seconds


def index_rate(base: Path, folders: Sequence[Path], threads: int) -> float:
    """Adapters per second that `hubdelta index --no-crawl` reports, from folders to Parquet."""
    with tempfile.TemporaryDirectory() as index:
        command = [sys.executable, "-m", "hubdelta", "index", "--no-crawl", "--json"]
        command += ["--threads", str(threads), "--index", index, "--base", str(base)]
        done = subprocess.run(  # noqa: S603
            [*command, *map(str, folders)], check=True, capture_output=True, text=True
        )
    return float(json.loads(done.stdout)["adapters_per_second"])


def measure(base: BaseModel, originals: Sequence[Path], size: int, threads: int) -> Figures:
    """Run all contenders; the fast one in rounds, with the limit measured before and after."""
    few = originals[:_SLOW_ADAPTERS]
    theirs, published_seconds = published(base, few)
    _, reference_seconds = embed(ReferenceEngine(base), few)
    engine = StackedEngine(base)
    ours, _ = embed(engine, few)
    rate: Callable[[], float] = lambda: matrix_rate(  # noqa: E731
        engine.model.dense_shapes, torch.float32, "cpu", _LIMIT_ROWS
    )
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(originals, size, Path(folder))
        rounds = [(rate(), embed(engine, pool)[1], rate()) for _ in range(_ROUNDS)]
        indexed = index_rate(base.folder, pool, threads)
    stacked_rate = size / statistics.median(seconds for _, seconds, _ in rounds)
    flops = engine.model.dense_flops
    # A shared machine's speed changes from minute to minute: before and after count equally.
    fast = [(before + after) / 2 for before, _, after in rounds]
    shares = [
        size * flops / (flops_per_second * seconds)
        for flops_per_second, (_, seconds, _) in zip(fast, rounds, strict=True)
    ]
    published_rate = len(few) / published_seconds
    return Figures(
        machine=machine(),
        threads=threads,
        pool=size,
        published_rate=published_rate,
        reference_rate=len(few) / reference_seconds,
        stacked_rate=stacked_rate,
        index_rate=indexed,
        limit_rate=statistics.median(fast) / flops,
        matrix_gflops=statistics.median(fast) / 1e9,
        speedup_over_published=stacked_rate / published_rate,
        share_of_limit=statistics.median(shares),
        least_cosine_to_published=min(
            float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
            for a, b in zip(ours, theirs, strict=True)
        ),
    )


def main() -> None:
    """Read the arguments, run, print lines for people and a JSON object for programs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=Path, help="transformers folder; the demo's by default")
    parser.add_argument("--adapters", type=Path, default=_ROOT / "demo" / "hub", metavar="DIR")
    parser.add_argument("--pool", type=int, default=64, metavar="N", help="adapters in the pool")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = (arguments.base or build_base(_ROOT / ".build" / "demo-base")).resolve()
    originals = sorted(path.parent.resolve() for path in arguments.adapters.rglob(CONFIG_FILE))
    if not originals:
        parser.error(f"{arguments.adapters} holds no {CONFIG_FILE}")
    threads = use_threads(None)
    keep_freed_memory()
    figures = measure(BaseModel.load(folder, ALPACA_5), originals, arguments.pool, threads)
    for name, per_second in (
        ("published algorithm", figures.published_rate),
        ("reference", figures.reference_rate),
        ("stacked", figures.stacked_rate),
        ("hubdelta index", figures.index_rate),
        ("limit", figures.limit_rate),
    ):
        print(f"{name:20} {per_second:6.2f} adapters/s")
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
