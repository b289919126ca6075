"""A process that has hubdelta imported and forks a child for each command line it is given.

Importing torch takes longer than a run over tiny models; without it, a kill at a random moment
hits the work. Reads a JSON list of arguments a line; writes the child's pid, then its exit code
(negative: the signal that ended it).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Forker:
    """Starts `hubdelta` processes that are quick to get to work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, *arguments: object) -> int:
        """Start `hubdelta ARGUMENTS` and return its process id."""
        self._process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """The exit code of the process started last."""
        return int(self._process.stdout.readline())


@contextmanager
def forker(**environment: str) -> Iterator[Forker]:
    """A forker whose children live in this environment."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Forker(process)
    finally:
        process.stdin.close()
        process.wait(60)


def _serve() -> None:
    import hubdelta.indexer.pipeline.run
    import hubdelta.jobs.index_run  # noqa: F401 (what a run would import)
    from hubdelta.cli import run

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os._exit(run(json.loads(line)))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
