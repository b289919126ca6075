"""`hubdelta explore`: the adapters of a base on a map, as a page and in the terminal."""

import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubdelta.commands.options import OfIndexBase, base_option, index_option, json_option
from hubdelta.schemas.defaults import DISTANCE
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.files import STDOUT, check_output, output, shown_output

if TYPE_CHECKING:
    from hubdelta.jobs.kept_map import KeptMap

logger = logging.getLogger(__name__)

_OUT = Path("hubdelta-map.html")
_BELOW = 3  # lines of the terminal for what stands below the map


@dataclass(frozen=True)
class ExploreSummary:
    """What was written.

    Attributes:
        path: the page.
        points: adapters on the map.
        domains: domains of two adapters and more.
        moved: adapters that stand elsewhere than on the last map.
        seconds: how long it took.
    """

    path: Path
    points: int
    domains: int
    moved: int
    seconds: float


@click.command(
    epilog="""\b
Examples:
  hubdelta explore --open
  hubdelta explore --base meta-llama/Llama-3.1-8B --out llama.html
  hubdelta explore --text"""
)
@base_option(kind=OfIndexBase(), help="The base model; needed where there are several.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help=f"The file to write; - is standard output.  [default: {_OUT}]",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
@click.option("--text", "as_text", is_flag=True, help="Only draw the map here, and write no page.")
@click.option(
    "--distance",
    type=click.FloatRange(0, 2),
    help="Domains by linkage: two adapters no further apart than this belong together.  "
    "[default: the domains of `hubdelta domains`]",
)
@index_option
@json_option
def command(
    base: str | None,
    out: Path | None,
    open_page: bool,
    as_text: bool,
    distance: float | None,
    index_path: Path,
    as_json: bool,
) -> None:
    """Write a map of a base's adapters as a page that needs no network; near means alike.

    On a terminal, the map is also drawn there.

    Adapters are laid out by t-SNE or, from 2,000 on, by UMAP. The index keeps their places, so that
    the map stays the same from night to night: new adapters are placed beside their nearest
    neighbors. When more than 20% are new, the map is recomputed and rotated to match the old one.
    """
    started = time.monotonic()
    if as_text and (out or open_page or as_json):
        raise UsageError("--text writes no page: leave out --out, --open and --json")
    if out == STDOUT and (open_page or as_json):
        raise UsageError("--out - writes the page to standard output: leave out --open and --json")

    from hubdelta.jobs.kept_map import opened_map
    from hubdelta.schemas.index import Index
    from hubdelta.schemas.words import counted
    from hubdelta.terminal.output import print_json

    index = Index.open(index_path)
    path = out or _OUT
    if not as_text:
        check_output(path)
    with opened_map(index, base, distance) as found:
        if not as_text:
            _write_page(found, path, distance)
        if as_text or (sys.stdout.isatty() and not as_json and path != STDOUT):
            _draw(found)
        summary = ExploreSummary(
            path=path.absolute(),
            points=len(found.pool),
            domains=len(found.domains.names),
            moved=found.placement.moved,
            seconds=round(time.monotonic() - started, 3),
        )
    if as_json:
        print_json(summary)
    elif not as_text:
        click.echo(
            f"{shown_output(path)}: {counted(summary.points, 'adapter')} "
            f"in {counted(summary.domains, 'domain')}"
            + (f"; {summary.moved:,} moved" if summary.moved else ""),
            err=path == STDOUT,
        )
    if open_page:
        _open(path)


def _write_page(found: "KeptMap", path: Path, distance: float | None) -> None:
    from datetime import UTC, datetime

    from hubdelta import __version__
    from hubdelta.explorer.page import render
    from hubdelta.explorer.payload import payload
    from hubdelta.settings import hub_url

    page = render(
        payload(
            found.pool,
            found.placement,
            found.domains,
            threshold=DISTANCE if distance is None else distance,
            hub=hub_url(),
            version=__version__,
            made_at=datetime.now(UTC),
        )
    )
    with output(path) as file:
        file.write(page.encode())


def _draw(found: "KeptMap") -> None:
    from hubdelta.explorer.text_map import draw
    from hubdelta.terminal.screen import Screen

    width, height = shutil.get_terminal_size()
    drawn = draw(found.placement.xy, found.domains, width=width, height=height - _BELOW)
    with Screen() as screen:
        if screen.is_plain:
            for line in drawn.plain.split("\n"):
                screen.line(line.rstrip())
        else:
            screen.draw(drawn)


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        logger.warning("found no browser to open %s with", path)
