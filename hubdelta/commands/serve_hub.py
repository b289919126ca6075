"""`hubdelta serve-hub`: a read-only Hub for a folder of repositories."""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLES: Final = """\
hubdelta serve-hub ./my-models --port 8080
HF_ENDPOINT=http://127.0.0.1:8080 hubdelta index --base my-org/my-base"""


def command(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, metavar="FOLDER", help="Holds org/name/... of each model."
        ),
    ],
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            metavar="PORT",
            help="Port to listen on; 0 takes a free one.",
        ),
    ] = 0,
    delay: Annotated[
        float,
        typer.Option(
            "--delay",
            min=0,
            metavar="SECONDS",
            help="Wait this long before each answer, as a distant Hub would.",
        ),
    ] = 0.0,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=1e-6,
            metavar="MB/S",
            help="Cap total bandwidth, to simulate a slow link.",
        ),
    ] = None,
) -> None:
    """Serve FOLDER/org/name/... as a read-only Hub. The first line it prints is its URL.

    Metadata comes from each model card's front matter and adapter_config.json; what files cannot
    say stands in a .hub.yaml beside them.
    """
    from hubdelta.settings import require_extra

    require_extra("hubdelta serve-hub", "serve")

    from hubdelta.hub_server.server import serve

    serve(folder, host, port, delay=delay, bytes_per_second=None if rate is None else rate * 1e6)
