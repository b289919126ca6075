"""Adapters per second: `hubdelta index --no-crawl` beside the published algorithm, in one run.

    python bench/engines.py [--base FOLDER] [--adapters DIR] [--limit N]

The published algorithm (arXiv 2509.04442, as its script does it): for each adapter the model is
built again, PEFT puts the adapter in, and the probes run one at a time. Both rivals get the same
base, adapters and threads. The last line is one JSON object; its `speedup_over_published` is a
ratio, the only figure that carries over to another machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from hubdelta.demo.base import build_base
from hubdelta.indexer.probes import ALPACA_5

Vectors = dict[str, npt.NDArray[np.float32]]

_DEMO_ADAPTERS = Path(__file__).resolve().parent.parent / "demo" / "hub"
_DEMO_BASE = Path(__file__).resolve().parent.parent / ".build" / "demo-base"


@dataclass(frozen=True)
class Figures:
    """What one run of this benchmark found; rates in adapters per second."""

    adapters: int
    engine: str
    threads: int
    machine: str
    hubdelta_rate: float
    hubdelta_rate_with_startup: float
    published_rate: float
    speedup_over_published: float
    least_cosine: float
    largest_difference: float


def published(base: Path, adapters: list[Path]) -> tuple[Vectors, float]:
    """The published computation; returns vectors [hidden] by folder, and seconds."""
    import torch  # here and not above: only now is the environment what hubdelta's process has
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)

    def mean_hidden_state(model: Any) -> npt.NDArray[np.float32]:
        states = []
        for prompt in ALPACA_5.prompts:
            inputs = tokenizer(prompt, return_tensors="pt", truncation=True, max_length=256)
            with torch.no_grad():
                outputs = model(**inputs, output_hidden_states=True)
            states.append(outputs.hidden_states[-1][0, -1].numpy())
        return np.mean(states, axis=0)

    def build() -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()

    started = time.perf_counter()
    base_state = mean_hidden_state(build())
    vectors = {}
    for folder in adapters:
        model = PeftModel.from_pretrained(build(), folder).eval()
        vectors[str(folder)] = mean_hidden_state(model) - base_state
    return vectors, time.perf_counter() - started


def hubdelta(base: Path, adapters: list[Path], engine: str) -> tuple[Vectors, float, float]:
    """`hubdelta index --no-crawl`; returns vectors by folder, its rate, and seconds in all."""
    with tempfile.TemporaryDirectory() as index:
        command = [sys.executable, "-m", "hubdelta", "index", "--no-crawl", "--json"]
        command += ["--engine", engine, "--index", index, "--base", str(base), *map(str, adapters)]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        seconds = time.perf_counter() - started
        rows = duckdb.sql(
            "SELECT repo_id, delta FROM read_parquet($files) WHERE delta IS NOT NULL",
            params={"files": f"{index}/vectors/*/*.parquet"},
        ).fetchall()
    rate = json.loads(done.stdout)["adapters_per_second"]
    return {repo_id: np.array(delta, np.float32) for repo_id, delta in rows}, rate, seconds


def compare(base: Path, adapters: list[Path], engine: str) -> Figures:
    """Run both rivals and compare their speed and their vectors."""
    ours, rate, seconds = hubdelta(base, adapters, engine)
    theirs, published_seconds = published(base, adapters)
    if failed := theirs.keys() - ours.keys():
        raise SystemExit(f"hubdelta gave no vector for {', '.join(sorted(failed))}")
    pairs = [(ours[name], theirs[name]) for name in theirs]
    cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]
    published_rate = len(adapters) / published_seconds
    return Figures(
        adapters=len(adapters),
        engine=engine,
        threads=int(os.environ["OMP_NUM_THREADS"]),
        machine=f"{platform.machine()}, {os.cpu_count()} CPUs",
        hubdelta_rate=rate,
        hubdelta_rate_with_startup=len(adapters) / seconds,
        published_rate=published_rate,
        speedup_over_published=rate / published_rate,
        least_cosine=float(min(cosines)),
        largest_difference=float(max(np.abs(a - b).max() for a, b in pairs)),
    )


def main() -> None:
    """Read the arguments, run, print a line for people and a JSON object for programs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, help="transformers folder; the demo's by default")
    parser.add_argument("--adapters", type=Path, default=_DEMO_ADAPTERS, metavar="DIR")
    parser.add_argument("--engine", default="reference")
    parser.add_argument("--limit", type=int, help="take only the first N adapters")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    # Both rivals get the same threads, which do not spin while they wait.
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    base = (arguments.base or build_base(_DEMO_BASE)).resolve()
    found = sorted(
        path.parent.resolve() for path in arguments.adapters.rglob("adapter_config.json")
    )
    if not found:
        parser.error(f"{arguments.adapters} holds no adapter_config.json")
    figures = compare(base, found[: arguments.limit], arguments.engine)
    print(
        f"{figures.adapters} adapters: hubdelta {figures.hubdelta_rate:.2f}/s, "
        f"published {figures.published_rate:.2f}/s, {figures.speedup_over_published:.2f} times"
    )
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
