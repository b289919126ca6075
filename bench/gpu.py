"""Adapters per second on a GPU, for every engine and precision, without a download.

    python bench/gpu.py --out FOLDER [--size llama-8b|tiny] [--device cuda|cpu]

A Llama of Llama-3.1-8B's shape with random weights, adapters of rank 16 on all seven linear layers
of each block, of mixed ranks, and DoRA; see synthetic.py for both, and for the probes, which are
token ids of ALPACA_5's lengths, since no tokenizer is downloaded. Each engine is warmed up with a
whole call first. What comes from disk is read from safetensors in threads ahead of the engine; the
files are in the page cache, as those just downloaded are. The published algorithm (arXiv
2509.04442) loads the model again for each adapter, wraps it and runs the probes one at a time.

gpu.json and gpu.md are written after each section, so that results survive a failure.
The last line is one JSON object.
"""

import argparse
import gc
import json
import logging
import os
import shlex
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count, cycle
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, as by the CLI

import numpy as np
import peft
import torch
import transformers
from gpu_meter import Meter, Vector, answers_of
from gpu_report import Report, machine
from rates import matrix_rate
from safetensors.torch import save_file
from synthetic import SIZES, Kind, Pool, dense_flops, low_rank_flops, make_base, on_device

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import Engine
from hubdelta.indexer.engines.hidden_states import hidden_states
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.stacked.precision import DTYPES, products_in
from hubdelta.indexer.process import (
    collect_around_what_is_loaded,
    keep_freed_memory,
    use_threads,
)

logger = logging.getLogger("gpu")

_LORA = Kind("LoRA", (16,))
_KINDS = (_LORA, Kind("mixed ranks", (8, 16, 32, 64)), Kind("DoRA", (16,), dora=True))

_WANTED_EFFECT = 0.25
"""‖delta‖/‖h‖ of the adapters, as for trained ones."""

_COMPARED = 32
"""Adapters of each pool whose deltas are compared with fp32's."""

_REFERENCE_ADAPTERS, _PUBLISHED_ADAPTERS, _READERS = 3, 2, 4
_WARM_UP = 192
"""Adapters of the first call at most, and of each from disk: two calls may be in memory."""
_ROWS = {"llama-8b": 8192, "tiny": 512}  # tokens in a product whose rate is measured


class Bench:
    """The sections of the benchmark, which share a base, pools of adapters and a report."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self._device = torch.device(options.device)
        self._size, self._call, self._sets = options.size, options.call, options.sets
        self._report = report
        self._meter = Meter(self._device, options.seconds, report)
        self._base: BaseModel
        self._pools: dict[str, Pool] = {}

    def sections(self) -> dict[str, Callable[[], None]]:
        """Name → measurement, most important first."""
        precisions = [name for name in DTYPES if name != "tf32" or self._device.type == "cuda"]
        faster = {
            f"stacked {name}": partial(self._stacked, name, (_LORA,))
            for name in precisions
            if name != "fp32"
        }
        return {
            "base and adapters": self._make,
            "matrix rates": partial(self._rates, precisions),
            "stacked fp32": self._fp32,
            "stacked auto": partial(self._stacked, "auto", _KINDS),
            "published": self._published,
            "stacked auto from disk": self._from_disk,
            **faster,
            "reference": self._reference,
        }

    def _make(self) -> None:
        self._base = make_base(self._size, self._device)
        self._pools = {k.name: Pool(self._base, k, self._sets, self._device) for k in _KINDS}
        self._report.work = {
            "tokens": sum(probe.shape[1] for probe in self._base.probes),
            "FLOPs in dense products": dense_flops(self._base),
            "FLOPs in low-rank products at r=16": low_rank_flops(self._base, 16),
        }
        collect_around_what_is_loaded()  # as an index run does

    def _rates(self, precisions: Sequence[str]) -> None:
        shapes = [shape for name, shape in self._base.shapes.items() if name.endswith("_proj")]
        for name in precisions:
            with products_in(name):
                rate = matrix_rate(shapes, DTYPES[name], self._device, _ROWS[self._size])
            self._report.matrix_rates[name] = rate

    def _fp32(self) -> None:
        """Scale the adapters to a usual effect, and compute the reference for comparison."""
        started = self._meter.now()
        engine = self._engine("fp32")
        set_up = self._meter.now() - started
        self._scale(engine)
        for name, pool in self._pools.items():
            answers = answers_of(engine, pool.adapters(range(_COMPARED)))
            self._meter.truth[name] = {place: answer.delta for place, answer in answers.items()}
        calls = self._from_memory(_LORA, max(1, self._call // 8))
        self._meter.measure(self._base, engine, "fp32", _LORA, calls, set_up)

    def _stacked(self, precision: str, kinds: Sequence[Kind]) -> None:
        started = self._meter.now()
        engine = self._engine(precision)
        set_up = self._meter.now() - started
        for kind in kinds:
            calls = self._from_memory(kind, self._call)
            self._meter.measure(self._base, engine, precision, kind, calls, set_up)

    def _from_disk(self) -> None:
        started = self._meter.now()
        engine = self._engine("auto")
        set_up = self._meter.now() - started
        with tempfile.TemporaryDirectory() as folder:
            adapters = self._pools[_LORA.name].adapters(range(max(2 * self._sets, _COMPARED)))
            for place, adapter in enumerate(adapters):
                save_file(adapter.tensors, Path(folder, f"{place}.safetensors"))
            with closing(self._read_ahead(Path(folder), adapters)) as calls:
                self._meter.measure(self._base, engine, "auto", _LORA, calls, set_up, source="disk")

    def _reference(self) -> None:
        started = self._meter.now()
        engine = ReferenceEngine(on_device(self._base, self._device))
        set_up = self._meter.now() - started
        pool = self._pools[_LORA.name]
        calls = iter([pool.adapters(range(_REFERENCE_ADAPTERS))] * 2)
        self._meter.measure(self._base, engine, "fp32", _LORA, calls, set_up)

    def _published(self) -> None:
        """Saving the base, and loading it first, into the page cache, is not timed."""
        pool = self._pools[_LORA.name]
        with tempfile.TemporaryDirectory() as temporary:
            base = Path(temporary, "base")
            self._base.model.save_pretrained(base)
            folders = [Path(temporary, str(place)) for place in range(_PUBLISHED_ADAPTERS)]
            for place, folder in enumerate(folders):
                _save(pool.adapter(place), folder)
            self._meter.reset_peak()
            started = self._meter.now()
            base_state = self._state(self._load(base))
            warm_up = self._meter.now() - started
            states = {}
            started = self._meter.now()
            for place, folder in enumerate(folders):
                model = peft.PeftModel.from_pretrained(self._load(base), folder).eval()
                states[place] = self._state(model)
                del model  # so that the next one finds room
            seconds = self._meter.now() - started
        self._meter.add(
            self._base,
            _LORA,
            {place: state - base_state for place, state in states.items()},
            engine="published",
            precision="stored",
            source="memory",
            adapters=len(states),
            seconds=seconds,
            warm_up_seconds=warm_up,
            answered_in={"fp32" if self._device.type == "cpu" else "bf16": len(states)},
        )

    def _load(self, folder: Path) -> Any:
        load = transformers.AutoModelForCausalLM.from_pretrained
        return load(folder, dtype="auto", device_map=str(self._device)).eval()

    def _state(self, model: torch.nn.Module) -> Vector:
        """Mean over the probes of the last token's hidden state, [hidden]."""
        probes = [probe.to(self._device) for probe in self._base.probes]
        mean: Vector = hidden_states(model, probes).astype(np.float64).mean(axis=0)
        return mean

    def _engine(self, precision: str) -> StackedEngine:
        return StackedEngine(self._base, device=str(self._device), precision=precision)

    def _scale(self, engine: Engine) -> None:
        """Choose the alpha that gives an adapter the wanted effect."""
        plain = self._pools[_LORA.name]
        effects = {}
        for plain.alpha in (2.0**power for power in range(10)):
            answer = answers_of(engine, [plain.adapter(0)])[0]
            norm = np.linalg.norm(answer.baseline.activations.mean(axis=0))
            effects[plain.alpha] = float(np.linalg.norm(answer.delta) / norm)
        best = min(effects, key=lambda alpha: abs(np.log(effects[alpha] / _WANTED_EFFECT)))
        for pool in self._pools.values():
            pool.alpha = best
        self._report.settings |= {"alpha": best, "delta_over_base": effects[best]}

    def _from_memory(self, kind: Kind, adapters: int) -> Iterator[list[PeftAdapter]]:
        """Call after call, each of other adapters; the first, to warm up, of not too many."""
        yield self._pools[kind.name].adapters(range(min(adapters, _WARM_UP)))
        for start in count(0, adapters):
            yield self._pools[kind.name].adapters(range(start, start + adapters))

    def _read_ahead(
        self, folder: Path, adapters: Sequence[PeftAdapter]
    ) -> Generator[list[PeftAdapter], None, None]:
        """Call after call from files, over and over, the next one read while one is embedded."""

        def read(place: int) -> PeftAdapter:
            tensors = read_tensors([folder / f"{place}.safetensors"])
            return replace(adapters[place], tensors=tensors)

        call = min(self._call, _WARM_UP)
        with ThreadPoolExecutor(_READERS) as readers:
            waiting: deque[Future[PeftAdapter]] = deque()
            places = cycle(range(len(adapters)))
            try:
                while True:
                    while len(waiting) < 2 * call:
                        waiting.append(readers.submit(read, next(places)))
                    yield [waiting.popleft().result() for _ in range(call)]
            finally:
                for future in waiting:
                    future.cancel()


def _save(adapter: PeftAdapter, folder: Path) -> None:
    """Write an adapter as PEFT does."""
    folder.mkdir()
    save_file(adapter.tensors, folder / "adapter_model.safetensors")
    (folder / CONFIG_FILE).write_text(json.dumps(adapter.config.values))


def _run(bench: Bench, report: Report, folder: Path, budget: float) -> None:
    """Run the sections; errors are recorded, and the next one runs."""
    started = time.monotonic()
    for name, section in bench.sections().items():
        spent = time.monotonic() - started
        if spent > budget:
            report.errors[name] = f"left out: the budget of {budget:.0f} s was spent"
            continue
        print(f"{spent:4.0f} s  {name}", flush=True)
        try:
            section()
        except Exception as error:
            logger.exception("%s", name)
            report.errors[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where there is no GPU
        report.settings["seconds"] = round(time.monotonic() - started, 1)
        report.write(folder)
    report.write(folder)


def main() -> None:
    """Read the arguments, measure, write, and print one JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--size", choices=SIZES, default="llama-8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement, at least")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds, then no new section")
    parser.add_argument("--call", type=int, default=768, help="adapters given to an engine at once")
    parser.add_argument("--sets", type=int, default=24, help="sets of tensors in host memory")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("bench/gpu.py: there is no CUDA device here")
    options.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.WARNING)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    use_threads(None)
    keep_freed_memory()
    command = shlex.join(["python", "bench/gpu.py", *sys.argv[1:]])
    report = Report(machine(options.device), {"command": command})
    _run(Bench(options, report), report, options.out, options.budget)
    print((options.out / "gpu.md").read_text())
    print(json.dumps(report.summary()))


if __name__ == "__main__":
    main()
