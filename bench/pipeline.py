"""Does anything wait needlessly? Downloads alone, passes alone, and both together as in a run.

    python bench/pipeline.py [--adapters N] [--speeds X,Y,...] [--delay SECONDS] [--workers N]
                             [--tries N]

`hubdelta serve-hub` serves the demo's adapters from a separate process, over a link of a given
speed and latency; a speed is given as a multiple of what the engine consumes, so that the same
situations occur on every machine: below 1 the link is the limit, above it the engine. For each
speed three things are timed in turn: fetching everything without computing, computing what is in
memory, and the pipeline of `hubdelta index` from the first request to the last row. Before all of
them the base is loaded and has computed all adapters once.

Other programs disturb one of the three and not the others, so each speed is timed `--tries` times,
and the median of its ratios counts.

The last line is one JSON object. `wall_over_max_stage` is the pipeline's time over the larger of
the other two, for the speed where it is worst; `bytes_over_needed` the bytes that arrived over
those the vectors depend on, the worst of all tries.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock

# Before torch is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from rates import machine

from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.demo.awkward_files import COMMITTED
from hubdelta.demo.base import BASE_ID, build_base
from hubdelta.demo.pool import POOL
from hubdelta.indexer.adapters.adapter import Adapter
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.engine import Engine
from hubdelta.indexer.engines.routing import load_engine
from hubdelta.indexer.pipeline.arrivals import Arrivals, Budget
from hubdelta.indexer.pipeline.pipeline import Lane, embed_all
from hubdelta.indexer.pipeline.progress import RunProgress
from hubdelta.indexer.pipeline.rows import RowMaker
from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.indexer.pipeline.writer import Writer
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.process import keep_freed_memory, use_threads
from hubdelta.indexer.recipe import Recipe
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName

_ROOT = Path(__file__).resolve().parent.parent
_WINDOW = 64


@dataclass(frozen=True)
class Timing:
    """What one speed of the line gave; seconds for all adapters."""

    line_mb_per_second: float
    download_seconds: float
    compute_seconds: float
    wall_seconds: float
    adapters_per_second: float
    wall_over_max_stage: float
    bytes_over_needed: float
    bottleneck: str | None
    busy: dict[str, float]


def main() -> None:
    """Measure, print a table, and one line of JSON."""
    options = _options()
    use_threads(options.threads)
    keep_freed_memory()
    base = options.base or build_base(_ROOT / ".build" / "demo-base")
    engine = load_engine(
        base, ALPACA_5, IndexSettings(device=options.device, precision=options.precision)
    )
    with tempfile.TemporaryDirectory() as temporary:
        served = _make_hub(Path(temporary) / "hub", base, options.adapters)
        bench = _Bench(engine, BaseStructure.read(base), Path(temporary), options.workers)
        with _serving(served, None, 0.0) as url, _hub(url) as hub:
            adapters, megabytes = bench.read_all(bench.pending(hub, served), hub)
        bench.compute(adapters)  # the first passes take memory that later ones have
        appetite = megabytes / bench.compute(adapters)
        timings, bytes_over_needed = [], []
        for multiple in options.speeds:
            rate = multiple * appetite
            tried: list[Timing] = []
            with _serving(served, rate, options.delay) as url, _hub(url) as hub:
                pending = bench.pending(hub, served)
                for _ in range(options.tries):
                    tried.append(bench.time(pending, adapters, hub, rate))
                    sys.stdout.write(_line(tried[-1]))
                    sys.stdout.flush()
            timings.append(sorted(tried, key=lambda one: one.wall_over_max_stage)[len(tried) // 2])
            bytes_over_needed += [timing.bytes_over_needed for timing in tried]
    worst = {
        "wall_over_max_stage": max(timing.wall_over_max_stage for timing in timings),
        "bytes_over_needed": max(bytes_over_needed),
    }
    figures = {
        "machine": machine(),
        "adapters": options.adapters,
        "workers": options.workers,
        "delay": options.delay,
        "speeds": [asdict(timing) for timing in timings],
    }
    sys.stdout.write(json.dumps(figures | worst) + "\n")


@dataclass(frozen=True)
class _Bench:
    engine: Engine
    structure: BaseStructure
    folder: Path
    workers: int

    def pending(self, hub: Hub, served: Path) -> list[Pending]:
        """What there is to embed, as a crawl would have found it."""
        names = sorted(
            path.relative_to(served).as_posix()
            for path in served.glob("*/*")
            if path.relative_to(served).as_posix() != BASE_ID
        )
        return [Pending(describe(hub, AdapterName(name), BASE_ID)[0], 1) for name in names]

    def read_all(self, pending: Sequence[Pending], hub: Hub) -> tuple[list[Adapter], float]:
        """All adapters in memory, and the megabytes that came for them."""
        before, adapters = hub.bytes_received, []
        arrivals = self._arrivals(pending, hub, Stages())
        for window in arrivals.windows(_WINDOW):
            for obtained in window:
                if isinstance(obtained.result, AdapterError):
                    raise obtained.result
                adapters.append(obtained.result)
            arrivals.release(window)
        return adapters, (hub.bytes_received - before) / 1e6

    def compute(self, adapters: Sequence[Adapter]) -> float:
        """Seconds of the passes alone."""
        started = time.perf_counter()
        for place, answer in self.engine.answers(adapters):
            if isinstance(answer, AdapterError):
                raise RuntimeError(f"{adapters[place].key}: {answer}")
        return time.perf_counter() - started

    def time(
        self, pending: Sequence[Pending], adapters: Sequence[Adapter], hub: Hub, rate: float
    ) -> Timing:
        """Time the three at one speed of the line, in MB/s."""
        started = time.perf_counter()
        self.read_all(pending, hub)
        download = time.perf_counter() - started
        compute = self.compute(adapters)

        before = hub.bytes_received
        progress = RunProgress(received=lambda: hub.bytes_received - before)
        recipe = Recipe(BASE_ID, "0" * 40, ALPACA_5.name, ALPACA_5.id)
        row_maker = RowMaker(recipe, ALPACA_5, self.structure.model_type, "bench")
        index = Index.create(Path(tempfile.mkdtemp(dir=self.folder)) / "index")
        arrivals = self._arrivals(pending, hub, progress.stages)
        lane = Lane(arrivals, lambda: self.engine, "compute", Lock(), _WINDOW)
        writer = Writer(row_maker, index, rows=_WINDOW, stages=progress.stages)
        embed_all(
            [lane], row_maker, writer, stop=Event(), progress=progress, on_progress=lambda _: None
        )
        wall = progress.stages.seconds
        if progress.embedded != len(pending):
            raise RuntimeError(f"{progress.embedded} of {len(pending)} embedded")
        return Timing(
            rate,
            download,
            compute,
            wall,
            len(pending) / wall,
            wall / max(download, compute),
            progress.received() / progress.needed_bytes,
            progress.stages.bottleneck,
            progress.stages.busy,
        )

    def _arrivals(self, pending: Sequence[Pending], hub: Hub, stages: Stages) -> Arrivals:
        budget = Budget(20 * 10**9)
        downloads = self.folder / "downloads"
        obtainer = Obtainer(hub, self.structure, downloads, max_bytes=10**9)
        return Arrivals(
            pending,
            obtainer,
            budget=budget,
            workers=self.workers,
            ahead=4 * _WINDOW,
            stages=stages,
            stop=Event(),
        )


def _make_hub(folder: Path, base: Path, adapters: int) -> Path:
    """A folder to serve: the base, and links to the demo's adapters, over again if need be."""
    (folder / BASE_ID).parent.mkdir(parents=True)
    (folder / BASE_ID).symlink_to(base)
    for number in range(adapters):
        adapter = POOL[number % len(POOL)]
        owner, _, name = adapter.repo_id.partition("/")
        place = folder / (owner if number < len(POOL) else f"{owner}-{number // len(POOL)}") / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(COMMITTED / adapter.repo_id)
    return folder


@contextmanager
def _serving(folder: Path, rate: float | None, delay: float) -> Iterator[str]:
    """The local Hub in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "hubdelta", "serve-hub", str(folder), "--delay", str(delay)]
    if rate is not None:
        command += ["--rate", str(rate)]
    with subprocess.Popen(  # noqa: S603 (our own command)
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("serve-hub prints nothing")
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def _hub(url: str) -> Hub:
    return Hub(HubSettings(endpoint=url))


def _line(timing: Timing) -> str:
    return (
        f"{timing.line_mb_per_second:7.1f} MB/s: download {timing.download_seconds:6.2f} s, "
        f"compute {timing.compute_seconds:6.2f} s, together {timing.wall_seconds:6.2f} s = "
        f"{timing.wall_over_max_stage:.2f} x the larger, {timing.adapters_per_second:.2f} "
        f"adapters/s, {timing.bytes_over_needed:.3f} x the bytes needed, mostly "
        f"{timing.bottleneck}\n"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="transformers folder; default: the demo's base")
    parser.add_argument("--adapters", type=int, default=54)
    parser.add_argument(
        "--speeds",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[0.25, 0.5, 1.0, 2.0, 8.0],
        help="of the line, in multiples of what the engine takes",
    )
    parser.add_argument("--delay", type=float, default=0.05, help="of each answer, in seconds")
    parser.add_argument("--workers", type=int, default=4, help="downloads at once")
    parser.add_argument("--tries", type=int, default=1, help="for each speed")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
