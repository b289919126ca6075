"""How fast an index of many adapters answers, next to numpy's exact product.

    python bench/query.py [--sizes N,N,...] [--joins N] [--queries N] [--folder FOLDER]

The adapters are synthetic, with the geometry of real ones (bench/delta_geometry.py); the tables are
real ones, in as many files as nightly runs would have left. For each size the contenders look up
the same adapters in turn: numpy, with all unit vectors in memory, one product and a partial sort;
`neighbors` in SQL, whose answer has names, downloads, licenses and datasets too; and the same from
Python, as in `hubdelta similar` and `open_index().similar`. Cold means a new
process, from connecting to the first answer; files stay in the system's page cache. Then 1,000
adapters are added. `--joins` times the questions about all pairs, next to numpy's product of all
pairs.

A neighbor is right if numpy has it in its top ten, or none of those is nearer by more than 1e-6.
The last line is one JSON object. `time_over_numpy` (of the SQL, warm), `python_over_numpy` and
`recall_at_10` carry over to other machines.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from delta_geometry import Floats, SyntheticDeltas
from exact import close_pairs, nearest, recall
from rates import machine
from synthetic_index import (
    BASE,
    SyntheticIndex,
    cache_bytes,
    name,
    number_of,
    parquet_bytes,
)

from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName
from hubdelta.sql.connection import connect
from hubdelta.sql.questions.answers import similar

K = 10

_TURN = 10
"""Adapters that a contender looks up before the next one's turn."""

_REST = 0.2
"""Between turns [seconds]: numpy's threads spin for a while after a product, and would take a core
from the next rival."""

_PROCESS = Path(__file__).with_name("query_process.py")


@dataclass(frozen=True)
class Lookup:
    """Results of one size: seconds (the median for lookups) and bytes.

    The linkage is what domains and duplicates need beside: a run brings it up to date at its end,
    which compares every new vector with all others.
    """

    size: int
    numpy_seconds: float
    warm_seconds: float
    python_seconds: float
    exact_seconds: float
    cold_seconds: float
    cold_process_seconds: float
    time_over_numpy: float
    python_over_numpy: float
    cold_over_numpy: float
    exact_over_numpy: float
    recall_at_10: float
    exact_recall_at_10: float
    build_seconds: float
    build_peak_bytes: int | None
    link_seconds: float | None
    link_peak_bytes: int | None
    added: int
    refresh_seconds: float
    refresh_nothing_seconds: float
    relink_seconds: float | None
    parquet_bytes: int
    cache_bytes: int


@dataclass(frozen=True)
class Joins:
    """Cost of the questions about all pairs: seconds, bytes."""

    size: int
    build_seconds: float
    link_seconds: float
    link_peak_bytes: int | None
    duplicates_seconds: float
    duplicates: int
    duplicates_missed: int
    domains_seconds: float
    domains: int
    peak_bytes: int | None
    numpy_seconds: float


def look_up(size: int, options: argparse.Namespace, root: Path) -> Lookup:
    """Build an index of one size, query it, and add to it."""
    made = SyntheticIndex(Index.create(root), SyntheticDeltas(size, options.width))
    units = made.fill(size)
    built = _process("open", root)
    asked = np.random.default_rng(size).choice(size, options.queries, replace=False).tolist()
    figures = race(made.index, units, asked)
    del units
    cold = [_process("ask", root, name(number)) for number in asked[: options.cold]]
    cold_seconds = statistics.median(one["seconds"] for one in cold)
    nothing = _process("open", root)
    links = size <= options.link_up_to
    linked = _process("link", root) if links else {}
    stored, cached = parquet_bytes(root), cache_bytes(root)
    made.add(size, size + options.added)
    refreshed = _process("open", root)
    relinked = _process("link", root) if links else {}
    return Lookup(
        size=size,
        **figures,
        cold_seconds=cold_seconds,
        cold_process_seconds=statistics.median(one["process_seconds"] for one in cold),
        time_over_numpy=figures["warm_seconds"] / figures["numpy_seconds"],
        python_over_numpy=figures["python_seconds"] / figures["numpy_seconds"],
        exact_over_numpy=figures["exact_seconds"] / figures["numpy_seconds"],
        cold_over_numpy=cold_seconds / figures["numpy_seconds"],
        build_seconds=built["seconds"],
        build_peak_bytes=built["peak_bytes"],
        link_seconds=linked.get("seconds"),
        link_peak_bytes=linked.get("peak_bytes"),
        added=options.added,
        refresh_seconds=refreshed["seconds"],
        refresh_nothing_seconds=nothing["seconds"],
        relink_seconds=relinked.get("seconds"),
        parquet_bytes=stored,
        cache_bytes=cached,
    )


def race(index: Index, units: Floats, asked: Sequence[int]) -> dict[str, float]:
    """Query all contenders in turn, so that a busy minute slows all of them.

    Args:
        index: holds the adapters 0 to n - 1.
        units: their unit vectors, [n, d].
        asked: numbers of the adapters to ask for.
    """

    def numbers(found: pa.Table) -> list[int]:
        return [number_of(adapter) for adapter in found["adapter"].to_pylist()]

    with connect(index) as queries:

        def ask(number: int, more: str = "") -> list[int]:
            return numbers(queries.run(f"FROM neighbors(?, k := {K}{more})", [name(number)]))

        def ask_from_python(number: int) -> list[int]:
            return numbers(similar(queries, AdapterName(name(number)), K))

        def ask_exactly(number: int) -> list[int]:
            return ask(number, ", exact := true")

        def multiply(number: int) -> list[int]:
            return nearest(units, number, K)

        rivals = {
            "numpy": multiply,
            "warm": ask,
            "python": ask_from_python,
            "exact": ask_exactly,
        }
        for answer in rivals.values():
            answer(asked[0])
        seconds: dict[str, list[float]] = {rival: [] for rival in rivals}
        recalls: dict[str, list[float]] = {rival: [] for rival in rivals}
        for start in range(0, len(asked), _TURN):
            found: dict[str, list[list[int]]] = {}
            for rival, answer in rivals.items():
                found[rival] = []
                if rival == "exact" and start:
                    continue  # one turn: it takes seconds each
                for number in asked[start : start + _TURN]:
                    started = time.perf_counter()
                    found[rival].append(answer(number))
                    seconds[rival].append(time.perf_counter() - started)
                time.sleep(_REST)
            for rival, answers in found.items():
                for number, mine, true in zip(asked[start:], answers, found["numpy"], strict=False):
                    recalls[rival].append(recall(units, number, mine, true))
    return {
        **{f"{rival}_seconds": statistics.median(taken) for rival, taken in seconds.items()},
        "recall_at_10": statistics.mean(recalls["warm"]),
        "exact_recall_at_10": statistics.mean(recalls["exact"]),
    }


def join(size: int, options: argparse.Namespace, root: Path) -> Joins:
    """Build an index and ask about all its pairs."""
    made = SyntheticIndex(Index.create(root), SyntheticDeltas(size, options.width))
    units = made.fill(size)
    built, linked = _process("open", root), _process("link", root)
    joined = _process("joins", root, BASE)
    started = time.perf_counter()
    duplicates = close_pairs(units, distance=0.01)  # the default of `duplicates`
    seconds = time.perf_counter() - started
    found = {tuple(sorted(map(number_of, pair))) for pair in joined["duplicates"]}
    return Joins(
        size=size,
        build_seconds=built["seconds"],
        link_seconds=linked["seconds"],
        link_peak_bytes=linked["peak_bytes"],
        duplicates_seconds=joined["duplicates_seconds"],
        duplicates=len(found),
        duplicates_missed=len(duplicates - found),
        domains_seconds=joined["domains_seconds"],
        domains=joined["domains"],
        peak_bytes=joined["peak_bytes"],
        numpy_seconds=seconds,
    )


def _process(*arguments: object) -> dict[str, Any]:
    """The output of a step in a separate process, with the seconds of the whole process."""
    command = [sys.executable, str(_PROCESS), *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"process_seconds": seconds}


@contextmanager
def _root(options: argparse.Namespace, kind: str) -> Iterator[Path]:
    """Where an index goes: into the folder that keeps it, or a temporary one."""
    if options.folder is not None:
        root = options.folder / kind
        if root.exists():
            raise SystemExit(f"{root} exists: name another --folder, or remove it")
        yield root
    else:
        with tempfile.TemporaryDirectory(prefix="hubdelta-bench-") as folder:
            yield Path(folder) / kind


def _has_room(size: int, options: argparse.Namespace) -> bool:
    """Whether memory and disk are enough for a size; says so if not."""
    vectors = size * options.width * 4
    memory = psutil.virtual_memory().available
    disk = shutil.disk_usage(options.folder or tempfile.gettempdir()).free
    for resource, there, needed in (("memory", memory, 2 * vectors), ("disk", disk, 2 * vectors)):
        if there < needed + 2e9:
            print(
                f"{size:7}: left out, {there / 1e9:.0f} GB of {resource} are too little for "
                f"{vectors / 1e9:.0f} GB of vectors"
            )
            return False
    return True


def main() -> None:
    """Measure, print a line a size, and one of JSON."""
    options = _options()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    lookups, joins = [], None
    for size in options.sizes:
        if _has_room(size, options):
            with _root(options, f"lookup-{size}") as root:
                lookups.append(look_up(size, options, root))
            print(_line(lookups[-1]), flush=True)
    if options.joins and _has_room(options.joins, options):
        with _root(options, f"joins-{options.joins}") as root:
            joins = join(options.joins, options, root)
        print(
            f"{joins.size:7}: built in {joins.build_seconds:.1f} s, linked in "
            f"{joins.link_seconds:.1f} (numpy's product of all pairs: {joins.numpy_seconds:.1f}); "
            f"duplicates {joins.duplicates_seconds:.2f} s, domains {joins.domains_seconds:.2f} s"
        )
    figures = {
        "machine": machine(),
        "width": options.width,
        "sizes": [asdict(one) for one in lookups],
        "joins": None if joins is None else asdict(joins),
    }
    print(json.dumps(figures))


def _line(one: Lookup) -> str:
    return (
        f"{one.size:7}: numpy {one.numpy_seconds * 1e3:.1f} ms, ours {one.warm_seconds * 1e3:.1f} "
        f"({one.time_over_numpy:.2f}, recall {one.recall_at_10:.4f}), from Python "
        f"{one.python_seconds * 1e3:.1f} ({one.python_over_numpy:.2f}), exact "
        f"{one.exact_seconds * 1e3:.1f}, cold {one.cold_seconds * 1e3:.0f}; built in "
        f"{one.build_seconds:.1f} s, {one.added} added in {one.refresh_seconds:.2f}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sizes",
        type=lambda text: [int(part) for part in text.split(",") if part],
        default=[10_000, 100_000],
        help="adapters in the index, one after the other",
    )
    parser.add_argument("--joins", type=int, default=20_000, help="adapters to join; 0: none")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--cold", type=int, default=5, help="new processes to ask")
    parser.add_argument("--added", type=int, default=1000, help="adapters added before a refresh")
    parser.add_argument(
        "--link-up-to",
        type=int,
        default=100_000,
        help="size from which on no linkage is made, which takes time as the square of it",
    )
    parser.add_argument("--width", type=int, default=4096, help="d, the length of a vector")
    parser.add_argument("--folder", type=Path, help="keep the indexes there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
