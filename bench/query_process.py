"""One step of `bench/query.py` in a separate process: its seconds and its memory.

    python bench/query_process.py {open,link,ask,joins} INDEX [ADAPTER or BASE]

The last line is one JSON object. Nothing is imported that the step does not need, so that `ask`
takes what a user waits for.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def open_index(root: str) -> dict[str, Any]:
    """Connect, which brings the cache up to date as far as lookups need it."""
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect

    started = time.perf_counter()
    connect(Index.open(Path(root))).close()
    return {"seconds": time.perf_counter() - started}


def link(root: str) -> dict[str, Any]:
    """Bring the cache up to date with its linkage, as a run does at its end."""
    from hubdelta.schemas.index import Index
    from hubdelta.sql.cache.cache import refresh

    started = time.perf_counter()
    refresh(Index.open(Path(root)))
    return {"seconds": time.perf_counter() - started}


def ask(root: str, adapter: str) -> dict[str, Any]:
    """Connect and ask once; with `import_seconds` for what Python loads before."""
    started = time.perf_counter()
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect

    imported = time.perf_counter()
    with connect(Index.open(Path(root))) as queries:
        found = queries.run("FROM neighbors(?, k := 10)", [adapter])
    return {
        "import_seconds": imported - started,
        "seconds": time.perf_counter() - imported,
        "rows": len(found),
    }


def joins(root: str, base: str) -> dict[str, Any]:
    """All duplicates and all domains of a base; connecting is not counted."""
    from hubdelta.schemas.index import Index
    from hubdelta.sql.connection import connect

    with connect(Index.open(Path(root))) as queries:
        started = time.perf_counter()
        duplicates = queries.run("FROM duplicates(?)", [base])
        between = time.perf_counter()
        domains = queries.run("FROM domains(?)", [base])
        ended = time.perf_counter()
    pairs = duplicates.select(["a", "b"]).to_pylist()
    return {
        "duplicates_seconds": between - started,
        "duplicates": [[pair["a"], pair["b"]] for pair in pairs],
        "domains_seconds": ended - between,
        "domains": len(domains),
    }


def _peak_bytes() -> int | None:
    """The peak memory of this process; None if Linux does not report it.

    getrusage's figure would not do: it begins with what the parent process had.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


_STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "open": open_index,
    "link": link,
    "ask": ask,
    "joins": joins,
}

if __name__ == "__main__":
    figures = _STEPS[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps(figures | {"peak_bytes": _peak_bytes()}) + "\n")
