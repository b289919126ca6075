"""The examples in every command's help run, on the demo's index, as they stand."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from families import make_adapter, make_base

from hubdelta.cli import hubdelta
from hubdelta.demo.base import BASE_ID
from hubdelta.demo.pool import SINGLE

_STAND_FOR = {
    "meta-llama/Llama-3.1-8B": BASE_ID,
    "some-org/some-adapter": "mlnights/lora-test-3",
    "other-org/other-adapter": "mlnights/lora-test-5",
    "my-org/my-base": BASE_ID,
}
"""What of the demo's stands for names that nobody would take for their own."""

_NOT_RUN = ("hubdelta serve-hub", "HF_ENDPOINT=", "hubdelta demo")
"""Who serves does so until it is stopped; tests/demo runs the demonstration."""


def examples() -> list[str]:
    found = []
    for name in ["", *hubdelta.list_commands(None)]:
        command = hubdelta.get_command(None, name) if name else hubdelta
        lines = command.epilog.partition("Example")[2].splitlines()[1:]
        found += [line.strip() for line in lines if line.strip()]
    return list(dict.fromkeys(found))


@pytest.fixture
def here(workplace, demo) -> Path:
    """The working directory, with the demo's index as it was."""
    shutil.rmtree(workplace / "hubdelta-index", ignore_errors=True)
    shutil.copytree(demo.path, workplace / "hubdelta-index")
    return workplace


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with the files that examples name."""
    folder = tmp_path_factory.mktemp("examples")
    labels = "".join(f"{adapter.repo_id},{adapter.domains[0]}\n" for adapter in SINGLE)
    (folder / "labels.csv").write_text(f"adapter,label\n{labels}")
    (folder / "report.sql").write_text("SELECT count(*) FROM adapters")
    base = make_base(folder / "my-base")
    for seed, name in enumerate(("my-adapter", "my-other-adapter")):
        make_adapter(folder / name, base, seed=seed)
    for place in (".local/share/bash-completion/completions", ".config/fish/completions"):
        (folder / place).mkdir(parents=True)
    command = folder / "bin" / "hubdelta"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hubdelta "$@"\n')
    command.chmod(0o755)
    return folder


def test_every_command_has_an_example_of_its_own():
    for name in hubdelta.list_commands(None):
        assert any(re.search(rf"hubdelta {name}\b", line) for line in examples()), name


@pytest.mark.parametrize("line", examples())
def test_an_example_runs(line, here, demo):
    if line.startswith(_NOT_RUN):
        pytest.skip("runs until it is stopped, or elsewhere")
    for name, real in _STAND_FOR.items():
        line = line.replace(name, real)
    line = line.replace("${fpath[1]}", ".")  # zsh's first folder of functions
    environment = {
        "HF_ENDPOINT": demo.hub.url,
        "HF_HOME": str(demo.home),
        "HOME": str(here),
        "PATH": f"{here / 'bin'}:{os.environ['PATH']}",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "HUBDELTA_INDEX"}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=here,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or ">" in line
