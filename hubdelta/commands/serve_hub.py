"""`hubdelta serve-hub`: a read-only Hub for a folder of repositories."""

from pathlib import Path

import click


@click.command(
    epilog="""\b
Example:
  hubdelta serve-hub ./my-models --port 8080
  HF_ENDPOINT=http://127.0.0.1:8080 hubdelta index --base my-org/my-base"""
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--delay",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait this long before each answer, as a distant Hub would.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB/S",
    help="Send at most this much in all, as a slow line would.",
)
def command(folder: Path, host: str, port: int, delay: float, rate: float | None) -> None:
    """Serve FOLDER/org/name/... as a read-only Hub. The first line it prints is its URL.

    Metadata comes from each model card's front matter and adapter_config.json; what files cannot
    say stands in a .hub.yaml beside them.
    """
    from hubdelta.settings import require_extra

    require_extra("hubdelta serve-hub", "serve")

    from hubdelta.hub_server.server import serve

    serve(folder, host, port, delay=delay, bytes_per_second=None if rate is None else rate * 1e6)
