"""A map in braille characters, two by four dots each; the first domains have a key and a color."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text

from hubdelta.explorer.layout import Plane
from hubdelta.explorer.payload import Domains
from hubdelta.schemas.errors import printable

KEYS: Final = "123456789abcdefghijklmnopqrstuvwxyz"
"""The symbol of each domain by number, on the map and in the legend, from 1 on."""

_COLORS = (
    *("cyan", "magenta", "green", "yellow", "blue", "red"),
    *("bright_cyan", "bright_magenta", "bright_green", "bright_yellow", "bright_blue"),
    "bright_red",
)
_PLAIN = "bright_black"  # adapters in no domain, or in one without a key

_BLANK = 0x2800  # Unicode's braille patterns: one bit per dot
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column
_LEAST_ROWS = 6


@dataclass(frozen=True)
class _Cell:
    """A character of the map."""

    dots: int
    domain: int | None


def draw(xy: Plane, domains: Domains, *, width: int, height: int) -> Text:
    """The map of a pool with its legend, each line at most `width` wide.

    Args:
        xy: the adapters' positions [n, 2].
        domains: their domains; texts from the Hub cannot style or control the terminal.
        width: columns of the terminal.
        height: its lines; a map is drawn even if there are too few.
    """
    named = min(len(_COLORS), len(domains.names), max(height // 3, 1))
    legend = _legend(domains, named, width)
    columns = max(width, 2)
    rows = max(height - len(legend), _LEAST_ROWS)
    cells = _cells(xy, domains.of, columns, rows)
    keys, symbols = _keys(xy, domains.of, named, columns, rows), _symbols(domains, named)
    lines = []
    for row in range(max(at for at, _ in cells) + 1):
        line = Text()
        for column in range(max((at for of, at in cells if of == row), default=-1) + 1):
            cell, key = cells.get((row, column)), keys.get((row, column))
            if key is not None:
                line.append(symbols[key], style=f"bold {_COLORS[key]}")
            elif cell is None:
                line.append(" ")
            else:
                line.append(chr(_BLANK + cell.dots), style=_color(cell.domain, named))
        lines.append(line)
    return Text("\n").join([*lines, *legend])


def _color(domain: int | None, named: int) -> str:
    return _PLAIN if domain is None or domain >= named else _COLORS[domain]


def _spots(xy: Plane, columns: int, rows: int) -> NDArray[np.int64]:
    """Row and column of each adapter in dots, from the top left [n, 2]."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    # Dots are square, since a character is twice as high as it is wide.
    steps = np.array([2 * columns - 1, 4 * rows - 1])
    extent = np.maximum(high - low, 1e-9)
    scale = (steps / extent).min()
    right = np.floor((xy[:, 0] - low[0]) * scale + 0.5)
    down = np.floor((high[1] - xy[:, 1]) * scale + 0.5)
    spots: NDArray[np.int64] = np.minimum(np.stack([down, right], axis=1), steps[::-1])
    return spots.astype(np.int64)


def _cells(
    xy: Plane, of: Sequence[int | None], columns: int, rows: int
) -> dict[tuple[int, int], _Cell]:
    """The characters that have dots, each with the domain of most of its adapters."""
    dots: Counter[tuple[int, int]] = Counter()
    inside: dict[tuple[int, int], Counter[int | None]] = {}
    for (down, right), domain in zip(_spots(xy, columns, rows).tolist(), of, strict=True):
        at = (down // 4, right // 2)
        dots[at] |= _DOTS[down % 4][right % 2]
        inside.setdefault(at, Counter())[domain] += 1
    return {at: _Cell(dots[at], inside[at].most_common(1)[0][0]) for at in dots}


def _keys(
    xy: Plane, of: Sequence[int | None], named: int, columns: int, rows: int
) -> dict[tuple[int, int], int]:
    """The position of each key: at the adapter nearest to the middle of its domain."""
    spots, keys = _spots(xy, columns, rows), dict[tuple[int, int], int]()
    domain_of = np.array([-1 if domain is None else domain for domain in of])
    for domain in range(named):
        members = np.flatnonzero(domain_of == domain)
        if len(members):
            away = xy[members] - np.median(xy[members], axis=0)
            down, right = spots[members[(away**2).sum(axis=1).argmin()]].tolist()
            keys.setdefault((down // 4, right // 2), domain)
    return keys


def _symbols(domains: Domains, named: int) -> str:
    """The symbol of each of the first domains: its number, or its rank if a number is too high."""
    numbers = domains.numbers[:named]
    if max(numbers, default=0) > len(KEYS):
        numbers = list(range(1, named + 1))
    return "".join(KEYS[number - 1] for number in numbers)


def _legend(domains: Domains, named: int, width: int) -> list[Text]:
    shown = list(zip(domains.names, domains.sizes, strict=True))[:named]
    digits = max((len(f"{size:,}") for _, size in shown), default=1)
    lines = []
    symbols = _symbols(domains, named)
    for place, (name, size) in enumerate(shown):
        key = (symbols[place], f"bold {_COLORS[place]}")
        lines.append(Text.assemble(key, f" {size:>{digits},} ", printable(name)))
    others = len(domains.names) - len(shown)
    rest = [
        f"{others:,} more domain{'' if others == 1 else 's'}" if others else "",
        f"{domains.of.count(None):,} in none" if domains.of.count(None) else "",
    ]
    if any(rest):
        lines.append(Text(", ".join(filter(None, rest)), style="dim"))
    for line in lines:
        if cell_len(line.plain) > width:
            line.truncate(width, overflow="ellipsis")
    return lines
