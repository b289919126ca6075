"""Measures what memory streamed passes take; run in a process of its own.

    python measure_memory.py [["plain"|"pool", [WARM_UP_FOLDER, FOLDER…]]…]

Prints a list for each of the given: the growth of a process's peak in the passes after the first,
in bytes. With "pool" memory is kept as in an index run. Each is measured in a child that is forked
when all is imported and nothing was computed.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from hubdelta.indexer.adapters.checkpoint import open_folder
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.engines.streamed.skeleton import Skeleton
from hubdelta.indexer.process import keep_freed_memory, use_threads


def one_pass(folder: Path) -> None:
    probes = [torch.arange(7, 7 + tokens)[None] for tokens in (20, 24, 31)]
    engine = StreamedEngine(folder, probes)
    config = json.loads((folder / "config.json").read_bytes())
    states = engine._hidden_states(
        Skeleton.build(config, "cpu"), open_folder(folder), engine._probes
    )
    assert abs(states).sum() > 0


def memory(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def growths(allocator: str, folders: list[str]) -> Iterator[int]:
    use_threads(1)
    if allocator == "pool":
        keep_freed_memory()
    one_pass(Path(folders[0]))
    for folder in folders[1:]:
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on
        one_pass(Path(folder))
        yield memory("VmHWM") - before


if __name__ == "__main__":
    for asked in json.loads(sys.argv[1]):
        if not (child := os.fork()):
            print(json.dumps(list(growths(*asked))), flush=True)
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(code)
