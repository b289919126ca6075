"""`hubdelta demo`: the whole tool at work on real adapters, on this machine alone."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from hubdelta.commands.options import IndexFolder
from hubdelta.schemas.errors import UsageError
from hubdelta.settings import DEFAULT_INDEX

_SHOWN_ADAPTER = "mlnights/lora-test-3"
_SHOWN_FINETUNE = "versewright/smollm2-135m-kjv-merged"


def _steps(base: str) -> list[list[str]]:
    """The commands of the demonstration, in a user's order."""
    return [
        ["index", "--base", base],
        ["status"],
        ["similar", _SHOWN_ADAPTER, "-k", "5"],
        ["domains"],
        ["index", "--base", base, "--no-crawl", "--relation", "finetune"],
        ["similar", _SHOWN_FINETUNE, "-k", "3"],
        ["sql", "SELECT reason, count(*) AS adapters FROM failures GROUP BY ALL ORDER BY ALL"],
    ]


def _default_folder() -> Path:
    from hubdelta import __version__  # a built Hub is left alone, so each version has its own

    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "hubdelta", f"demo-{__version__}")


EXAMPLES: Final = "hubdelta demo --index ./demo-index"


def command(
    *,
    folder: Annotated[
        Path,
        typer.Option(
            "--folder",
            file_okay=False,
            metavar="FOLDER",
            default_factory=_default_folder,
            show_default="~/.cache/hubdelta/demo-VERSION",
            help="Where the demonstration's Hub and base model are kept (about 900 MB).",
        ),
    ],
    index_path: IndexFolder = DEFAULT_INDEX,
) -> int:
    """Crawl, embed and query a small Hub of real adapters, served on this machine.

    Needs no network: the base model comes from a package, the adapters from the clone of hubdelta
    that it is installed from. Each step is an ordinary command, shown before it runs; the index
    stays for you to query.
    """
    from hubdelta.settings import require_extra

    require_extra("hubdelta demo", "demo")

    from hubdelta.demo.awkward import build_hub
    from hubdelta.demo.awkward_files import COMMITTED
    from hubdelta.demo.base import BASE_ID
    from hubdelta.hub_server.server import LocalHub

    if not COMMITTED.is_dir():
        raise UsageError("the package lacks the demo's adapters: run `make demo` in a clone")
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of the libraries that build the base
    for chatty in ("uvicorn", "hubdelta.hub_server"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    folder = folder.expanduser()
    typer.echo(
        f"Building the demonstration's Hub in {folder} (the first time: half a minute) ...",
        err=True,
    )
    with LocalHub(build_hub(folder / "hub")) as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf-home"),
            "HUBDELTA_INDEX": str(index_path),
        }
        # A real token is not for this Hub, which would refuse it.
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            environment.pop(name, None)
        typer.echo(f"Serving it as {hub.url}\n", err=True)
        for arguments in _steps(BASE_ID):
            shown = " ".join(f'"{part}"' if " " in part else part for part in arguments)
            typer.secho(f"$ hubdelta {shown}", bold=True, err=True)
            command = [sys.executable, "-m", "hubdelta", *arguments]
            code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603
            if code:
                return code
            typer.echo(err=True)
    typer.echo(
        f"The index stays at {index_path}: try `hubdelta explore --open --index {index_path}`, "
        f"or `hubdelta sql --index {index_path}`",
        err=True,
    )
    return 0
