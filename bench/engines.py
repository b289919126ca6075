"""Adapters per second on this machine: the published algorithm, the engines, and their limits.

    python bench/engines.py [--base FOLDER] [--adapters DIR] [--pool N]

All rivals get the same base, probes and threads, in one process. The published algorithm (arXiv
2509.04442, as its script does it): for each adapter the model is built again, PEFT puts the adapter
in, and the probes run one at a time. The pool of the stacked engine is the demo's adapters, each
several times with other weights; it runs in fp32 and in bf16, whose products are of differences
from the base's activations. A limit is what the base's own dense products alone would take at the
rate of the type that is measured between the engine's rounds, at the model's own shapes.

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
from collections.abc import Sequence
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
from hubdelta.indexer.engines.stacked.precision import DTYPES
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.keys import AdapterKey

Vector = npt.NDArray[np.float64]

_ROOT = Path(__file__).resolve().parent.parent
_WEIGHTS = "adapter_model.safetensors"
_ROUNDS = 3
_PRECISIONS = ("fp32", "bf16")
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
    bf16_rate: float
    bf16_limit_rate: float
    bf16_over_fp32: float
    bf16_share_of_limit: float
    bf16_least_cosine_to_fp32: float


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


@dataclass(frozen=True)
class Rounds:
    """Rounds of the stacked engine in one precision, with the limit measured before and after each.

    Attributes:
        seconds: of each round.
        flops_per_second: of the type's products, around each round.
        deltas: of the pool.
    """

    seconds: list[float]
    flops_per_second: list[float]
    deltas: list[Vector]

    @property
    def median_seconds(self) -> float:
        """Of a round."""
        return statistics.median(self.seconds)

    def share_of_limit(self, flops: float) -> float:
        """Of what the type's products alone would take.

        Args:
            flops: of these, for the pool.
        """
        pairs = zip(self.flops_per_second, self.seconds, strict=True)
        return statistics.median(flops / (rate * seconds) for rate, seconds in pairs)


def in_rounds(engines: dict[str, StackedEngine], pool: Sequence[Path]) -> dict[str, Rounds]:
    """Run the precisions in turn, so that a machine that changes its speed does not favor one."""
    rounds = {precision: Rounds([], [], []) for precision in engines}
    for _ in range(_ROUNDS):
        for precision, engine in engines.items():
            shapes, dtype = engine.model.dense_shapes, DTYPES[precision]
            before = matrix_rate(shapes, dtype, "cpu", _LIMIT_ROWS)
            deltas, seconds = embed(engine, pool)
            after = matrix_rate(shapes, dtype, "cpu", _LIMIT_ROWS)
            of = rounds[precision]
            of.seconds.append(seconds)
            of.flops_per_second.append((before + after) / 2)
            of.deltas[:] = deltas
    return rounds


def least_cosine(ours: Sequence[Vector], theirs: Sequence[Vector]) -> float:
    """The least cosine of two embeddings of the same adapters."""
    return min(
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
        for a, b in zip(ours, theirs, strict=True)
    )


def measure(base: BaseModel, originals: Sequence[Path], size: int, threads: int) -> Figures:
    """Run all contenders; the fast one in rounds, with the limit measured before and after."""
    few = originals[:_SLOW_ADAPTERS]
    theirs, published_seconds = published(base, few)
    _, reference_seconds = embed(ReferenceEngine(base), few)
    engines = {precision: StackedEngine(base, precision=precision) for precision in _PRECISIONS}
    ours, _ = embed(engines["fp32"], few)
    with tempfile.TemporaryDirectory() as folder:
        pool = make_pool(originals, size, Path(folder))
        rounds = in_rounds(engines, pool)
        indexed = index_rate(base.folder, pool, threads)
    exact, narrow = rounds["fp32"], rounds["bf16"]
    flops = engines["fp32"].model.dense_flops
    published_rate = len(few) / published_seconds
    return Figures(
        machine=machine(),
        threads=threads,
        pool=size,
        published_rate=published_rate,
        reference_rate=len(few) / reference_seconds,
        stacked_rate=size / exact.median_seconds,
        index_rate=indexed,
        limit_rate=statistics.median(exact.flops_per_second) / flops,
        matrix_gflops=statistics.median(exact.flops_per_second) / 1e9,
        speedup_over_published=size / exact.median_seconds / published_rate,
        share_of_limit=exact.share_of_limit(size * flops),
        least_cosine_to_published=least_cosine(ours, theirs),
        bf16_rate=size / narrow.median_seconds,
        bf16_limit_rate=statistics.median(narrow.flops_per_second) / flops,
        bf16_over_fp32=statistics.median(
            a / b for a, b in zip(exact.seconds, narrow.seconds, strict=True)
        ),
        bf16_share_of_limit=narrow.share_of_limit(size * flops),
        bf16_least_cosine_to_fp32=least_cosine(narrow.deltas, exact.deltas),
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
        ("stacked in fp32", figures.stacked_rate),
        ("hubdelta index", figures.index_rate),
        ("limit of fp32", figures.limit_rate),
        ("stacked in bf16", figures.bf16_rate),
        ("limit of bf16", figures.bf16_limit_rate),
    ):
        print(f"{name:20} {per_second:6.2f} adapters/s")
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
