"""How long a map of many adapters takes, how large it gets, and how faithful it is.

    python bench/map.py [--sizes N,N,...] [--width D] [--folder FOLDER]

The adapters are synthetic, with the geometry of real ones (bench/delta_geometry.py). For each size,
in a separate process so that its peak memory is measured alone: neighbors and then layout, the
payload, the page, and then 5 % more adapters placed among those on the map. `peak_bytes` is the
most memory that a map took, without the linkage before it: of the vectors, which are memory-mapped,
the system counts what it keeps in memory, and DuckDB holds some. (Linux only.)

Trustworthiness (J. Venna and S. Kaski 2001; scikit-learn's, of 15 neighbors) is 1 if all that are
near each other on the map are near by cosine distance; for large pools it is measured on 3,000
random adapters. The last line is one JSON object.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before numpy is loaded: threads that spin while they wait slow a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from delta_geometry import SyntheticDeltas
from sklearn.manifold import trustworthiness
from synthetic_index import SyntheticIndex

from hubdelta import __version__
from hubdelta.explorer.page import render
from hubdelta.explorer.payload import domains_of, payload
from hubdelta.explorer.placement import place
from hubdelta.explorer.pool import MapPool, opened_pool
from hubdelta.schemas.index import Index
from hubdelta.sql.cache import cache
from hubdelta.sql.connection import connect

_COMPARED = 3000
_ADDED = 0.05
_DISTANCE = 0.25


@contextmanager
def timed(figures: dict[str, Any], name: str) -> Iterator[None]:
    """Note how many seconds the block takes."""
    started = time.perf_counter()
    yield
    figures[f"{name}_seconds"] = round(time.perf_counter() - started, 3)


def forget_peak() -> None:
    """Reset the process's peak of memory."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The process's peak of memory since then."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit("the kernel does not report the peak of memory")
    return int(found[1]) * 1024


def truth(pool: MapPool, xy: np.ndarray) -> float:
    """Trustworthiness of a map, of a sample of its adapters."""
    rows = np.arange(len(pool))
    if len(pool) > _COMPARED:
        rows = np.sort(np.random.default_rng(0).choice(len(pool), _COMPARED, replace=False))
    return float(trustworthiness(pool.units[rows], xy[rows], n_neighbors=15, metric="cosine"))


def measure(root: Path, size: int, width: int) -> dict[str, Any]:
    """All figures of one size."""
    synthetic = SyntheticIndex(Index.create(root), SyntheticDeltas(size, width))
    synthetic.fill(size)
    figures: dict[str, Any] = {"size": size, "width": width}
    with timed(figures, "link"):
        cache.refresh(synthetic.index)
    forget_peak()
    with connect(synthetic.index) as queries, opened_pool(queries) as pool:
        with timed(figures, "read"):
            pool.units  # noqa: B018 (read when first asked for)
        with timed(figures, "neighbors"):
            pool.neighbors  # noqa: B018
        with timed(figures, "layout"):
            placement = place(pool, datetime.now(UTC))
        figures["method"] = placement.methods[0]
        with timed(figures, "payload"):
            text = payload(
                pool,
                placement,
                domains_of(pool, _DISTANCE),
                threshold=_DISTANCE,
                hub="https://huggingface.co",
                version=__version__,
                made_at=datetime.now(UTC),
            )
        with timed(figures, "page"):
            page = render(text)
        figures["payload_bytes"], figures["html_bytes"] = len(text.encode()), len(page.encode())
        figures["peak_bytes"] = peak_bytes()
        figures["trustworthiness"] = round(truth(pool, placement.xy), 4)
        synthetic.index.write(placement.news, base=pool.base)
    synthetic.add(size, size + int(size * _ADDED))
    cache.refresh(synthetic.index)
    with connect(synthetic.index) as queries, opened_pool(queries) as pool:
        with timed(figures, "place_new"):
            placement = place(pool, datetime.now(UTC))
        figures["new"], figures["moved"] = len(placement.news), placement.moved
        figures["trustworthiness_with_new"] = round(truth(pool, placement.xy), 4)
    return figures


def main() -> None:
    """Measure each size in a process of its own; print a line each, and one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="1500,5000,20000")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="where the indexes are made")
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.folder, arguments.only, arguments.width)))
        return
    from rates import machine  # with it comes torch, which needs memory too

    results = []
    for size in map(int, arguments.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="hubdelta-map-", dir=arguments.folder) as folder:
            command = [sys.executable, __file__, "--only", str(size), "--folder", folder]
            command += ["--width", str(arguments.width)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(", ".join(f"{name} {value}" for name, value in results[-1].items()), flush=True)
    print(json.dumps({"machine": machine(), "results": results}))


if __name__ == "__main__":
    main()
