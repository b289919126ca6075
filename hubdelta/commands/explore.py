"""`hubdelta explore`: the adapters of a base on a map, as a page and in the terminal."""

import logging
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hubdelta.commands.options import Distance, IndexFolder, OneBase, refuse_unused
from hubdelta.schemas.defaults import DISTANCE
from hubdelta.settings import DEFAULT_INDEX
from hubdelta.terminal.output import Output

if TYPE_CHECKING:
    from hubdelta.jobs.kept_map import KeptMap
    from hubdelta.terminal.screen import Screen

logger = logging.getLogger(__name__)

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


EXAMPLES: Final = """\
hubdelta explore --open
hubdelta explore --base meta-llama/Llama-3.1-8B --out llama.html
hubdelta explore --text"""


def command(
    *,
    context: typer.Context,
    base: OneBase = None,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE", help="The file to write; - is standard output."),
    ] = Path("hubdelta-map.html"),
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_text: Annotated[
        bool, typer.Option("--text", help="Only draw the map here, and write no page.")
    ] = False,
    distance: Distance = None,
    index_path: IndexFolder = DEFAULT_INDEX,
    output: Output,
) -> None:
    """Write a map of a base's adapters as a page that needs no network; near means alike.

    On a terminal, the map is also drawn there.

    Adapters are laid out by t-SNE or, from 2,000 on, by UMAP. The index keeps their places, so that
    the map stays the same from night to night: new adapters are placed beside their nearest
    neighbors. When more than 20% are new, the map is recomputed and rotated to match the old one.
    """
    from hubdelta.jobs.kept_map import opened_map
    from hubdelta.schemas.files import STDOUT, check_output
    from hubdelta.schemas.index import Index

    started = time.monotonic()
    if as_text:
        refuse_unused(context, "with --text, which writes no page", "out", "open_page", "as_json")
    if out == STDOUT:
        refuse_unused(context, "with --out -, which writes the page there", "open_page", "as_json")

    index = Index.open(index_path)
    if not as_text:
        check_output(out)
    with opened_map(index, base, distance) as found:
        if as_text:
            output.answer(None, lambda screen: _draw(found, screen))
            return
        _write_page(found, out, distance)
        summary = ExploreSummary(
            path=out.absolute(),
            points=len(found.pool),
            domains=len(found.domains.names),
            moved=found.placement.moved,
            seconds=round(time.monotonic() - started, 3),
        )
        if out == STDOUT:
            typer.echo(_sentence(out, summary), err=True)
        else:
            output.answer(summary, lambda screen: _show(found, out, summary, screen))
    if open_page:
        _open(out)


def _show(found: "KeptMap", out: Path, summary: ExploreSummary, screen: "Screen") -> None:
    if sys.stdout.isatty():
        _draw(found, screen)
    screen.line(_sentence(out, summary))


def _sentence(out: Path, summary: ExploreSummary) -> str:
    """As in: hubdelta-map.html: 30 adapters in 5 domains; 2 moved."""
    from hubdelta.schemas.files import shown_output
    from hubdelta.schemas.words import counted

    where = f"{shown_output(out)}: {counted(summary.points, 'adapter')} in "
    moved = f"; {summary.moved:,} moved" if summary.moved else ""
    return f"{where}{counted(summary.domains, 'domain')}{moved}"


def _write_page(found: "KeptMap", path: Path, distance: float | None) -> None:
    from datetime import UTC, datetime

    from hubdelta import __version__
    from hubdelta.explorer.page import render
    from hubdelta.explorer.payload import payload
    from hubdelta.schemas.files import opened_output
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
    with opened_output(path) as file:
        file.write(page.encode())


def _draw(found: "KeptMap", screen: "Screen") -> None:
    from hubdelta.explorer.text_map import draw

    width, height = shutil.get_terminal_size()
    drawn = draw(found.placement.xy, found.domains, width=width, height=height - _BELOW)
    if screen.is_plain:
        for line in drawn.plain.split("\n"):
            screen.line(line.rstrip())
    else:
        screen.draw(drawn)


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.absolute().as_uri()):
        logger.warning("found no browser to open %s with", path)
