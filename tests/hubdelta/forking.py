"""`hubdelta` and scripts as processes of their own, forked from one that has imported their needs.

Starting Python and importing torch takes longer than most runs over tiny models do. A process here
gets its arguments, environment, folder and streams as `subprocess` would give them.
"""

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NoReturn

_COMPUTING = {"index", "demo", "evaluate"}
"""Commands that import torch."""

_IMPORTED = (
    *("hubdelta.cli", "hubdelta.api", "hubdelta.commands", "hubdelta.terminal", "hubdelta.crawler"),
    *("hubdelta.sql", "hubdelta.sql.questions", "hubdelta.clusters", "hubdelta.explorer"),
    *("pandas", "pyarrow.pandas_compat", "rich.progress", "rich.table", "scipy.sparse.csgraph"),
    *("sklearn.cluster", "sklearn.manifold", "sklearn.neighbors"),
)
"""What commands import, now or when they run; of a room, all of its modules."""

_IMPORTED_TO_COMPUTE = (
    *("hubdelta.jobs", "hubdelta.indexer.pipeline", "hubdelta.evaluation.compute"),
    *("transformers.models.llama.modeling_llama", "peft.utils.transformers_weight_conversion"),
)

_NOBODYS = "/nowhere"
"""What a process would use that read the environment of the one it was forked from."""


class Process:
    """A running `hubdelta`; `returncode` is negative where a signal ended it."""

    def __init__(self, channel: socket.socket) -> None:
        self._lines = channel.makefile("r")
        self._channel = channel
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it is there; whoever takes longer is killed."""
        if self.returncode is None:
            self._channel.settimeout(timeout)
            try:
                self.returncode = int(self._lines.readline())
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired("hubdelta", timeout or 0) from None
            self._lines.close()
            self._channel.close()
        return self.returncode


def start(
    *arguments: object,
    script: Path | None = None,
    computing: bool | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Process:
    """Start `hubdelta ARGUMENTS`, or a script.

    Args:
        *arguments: of the command line.
        script: a file of Python to run instead of `hubdelta`.
        computing: whether torch is needed; by default, as the command does.
        environment: all of it; by default, this process's.
        cwd: the folder to start in; by default, this process's.
        stdin: a file or its descriptor; None for an empty one.
        stdout: likewise.
        stderr: likewise.
    """
    words = [str(argument) for argument in arguments]
    request = {
        "script": str(script or ""),
        "arguments": words,
        "environment": dict(os.environ if environment is None else environment),
        "cwd": str(cwd or Path.cwd()),
    }
    channel = socket.socket(socket.AF_UNIX)
    if computing is None:
        computing = not _COMPUTING.isdisjoint(words) and find_spec("torch") is not None
    channel.connect(_loaded(computing))
    with Path(os.devnull).open("r+b") as nothing:
        given = [nothing if stream is None else stream for stream in (stdin, stdout, stderr)]
        streams = [one if isinstance(one, int) else one.fileno() for one in given]
        socket.send_fds(channel, [b"\n"], streams)
    channel.sendall(json.dumps(request).encode() + b"\n")
    return Process(channel)


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same as `run_bytes`, its output as text."""
    done = run_bytes(*arguments, **options)
    texts = (done.stdout.decode(), done.stderr.decode())
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def run_bytes(
    *arguments: object,
    script: Path | None = None,
    computing: bool | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 300,
    **environment: str,
) -> subprocess.CompletedProcess[bytes]:
    """What `subprocess.run` gives for `hubdelta ARGUMENTS` with more in its environment."""
    with tempfile.TemporaryFile() as into, _Kept() as out, _Kept() as err:
        into.write(stdin)
        into.seek(0)
        process = start(
            *arguments,
            script=script,
            computing=computing,
            environment=os.environ | environment,
            cwd=cwd,
            stdin=into,
            stdout=out.end,
            stderr=err.end,
        )
        out.close_end()
        err.close_end()
        code = process.wait(timeout)
        return subprocess.CompletedProcess(["hubdelta", *arguments], code, out.read(), err.read())


class _Kept:
    """A pipe whose reader never lets its writer wait."""

    def __enter__(self) -> "_Kept":
        reader, self.end = os.pipe()
        self._bytes = b""
        self._thread = threading.Thread(target=self._keep, args=[reader], daemon=True)
        self._thread.start()
        self._open = True
        return self

    def _keep(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as file:
            self._bytes = file.read()

    def close_end(self) -> None:
        if self._open:
            os.close(self.end)
            self._open = False

    def read(self) -> bytes:
        self._thread.join()
        return self._bytes

    def __exit__(self, *_: object) -> None:
        self.close_end()


@cache
def _loaded(computing: bool) -> str:
    """The address of a process that forks, with torch or without; it ends with this one."""
    folder = tempfile.mkdtemp(prefix="hubdelta-fork-")
    address = f"{folder}/socket"
    server = subprocess.Popen(
        [sys.executable, __file__, address, "computing" if computing else ""],
        env=os.environ
        | {"HF_HOME": _NOBODYS, "HF_ENDPOINT": f"http://{_NOBODYS}"}
        | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def end() -> None:
        server.stdin.close()
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    assert server.stdout.readline() == b"ready\n"
    return address


def _serve(address: str, *, computing: bool) -> None:
    for name in (*_IMPORTED, *(_IMPORTED_TO_COMPUTE if computing else ())):
        module = importlib.import_module(name)
        for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if name.startswith("hubdelta."):
                importlib.import_module(f"{name}.{part.name}")
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as asked:
        listener.bind(address)
        listener.listen()
        asked.register(listener, selectors.EVENT_READ)
        asked.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in asked.select():
                if key.fileobj is sys.stdin:  # whoever started us has ended
                    return
                channel, _ = listener.accept()
                if not os.fork():
                    asked.close()
                    listener.close()
                    _keep(channel)
                channel.close()
                with contextlib.suppress(ChildProcessError):
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass


def _keep(channel: socket.socket) -> NoReturn:
    """Fork once more: this process tells how that one ends."""
    _, streams, _, _ = socket.recv_fds(channel, 1, 3)
    with channel.makefile("r") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if not pid:
        channel.close()
        _become(request, streams)
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it
        channel.sendall(b"%d\n" % pid)
        channel.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _become(request: Mapping[str, object], streams: list[int]) -> NoReturn:
    """What `python -m hubdelta ARGUMENTS`, or a script, is."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    for stream in set(streams) - {0, 1, 2}:
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if constants := sys.modules.get("huggingface_hub.constants"):
        importlib.reload(constants)  # it reads the environment
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdin = os.fdopen(0, encoding=encoding)
    sys.stdout = os.fdopen(1, "w", 1 if os.isatty(1) else -1, encoding)
    sys.stderr = os.fdopen(2, "w", 1, encoding, "backslashreplace")
    script = request["script"]
    sys.argv = [script or "hubdelta", *request["arguments"]]
    code = 0
    try:
        if script:
            sys.path[0] = str(Path(script).parent)
            runpy.run_path(script, run_name="__main__")
        else:
            from hubdelta.cli import main

            main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 (as an interpreter tells what nobody has caught)
        traceback.print_exc()
        code = 1
    # An ordinary end would take torch's modules apart, for seconds.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], computing=bool(sys.argv[2]))
