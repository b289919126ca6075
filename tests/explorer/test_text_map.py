"""The map in characters: it fits, and names from the Hub neither style nor steer the terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from hubdelta.explorer.payload import Domains
from hubdelta.explorer.text_map import draw

CORNERS = np.array([[-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
TWO = Domains(numbers=[1, 2], names=["poems", "code"], sizes=[2, 2], of=[0, 0, 1, 1, None])


def shown(xy, domains, *, terminal=False, width=40, height=20) -> str:
    file = io.StringIO()
    colors = "truecolor" if terminal else "auto"
    console = Console(file=file, force_terminal=terminal, color_system=colors, width=width)
    console.print(draw(xy, domains, width=width, height=height), no_wrap=True)
    return file.getvalue()


def is_braille(character: str) -> bool:
    return "\u2800" < character <= "\u28ff"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 20), (20, 10), (5, 3), (300, 60)])
def test_it_fits_the_terminal(width, height):
    rng = np.random.default_rng(0)
    of = [int(domain) for domain in rng.integers(20, size=300)]
    domains = Domains(
        list(range(1, 21)), [f"a domain of a long name, {n}" for n in range(20)], [15] * 20, of
    )
    lines = shown(rng.uniform(-1, 1, (300, 2)), domains, width=width, height=height).splitlines()
    assert max(map(cell_len, lines)) <= width
    if height >= 10:
        assert len(lines) <= height


def test_proportions_are_kept():
    lines = shown(CORNERS, TWO, width=80, height=24).splitlines()
    rows = [row for row, line in enumerate(lines[:-3]) if line.strip()]
    columns = [at for line in lines[:-3] for at, character in enumerate(line) if character != " "]
    assert max(columns) + 1 == pytest.approx(2 * (max(rows) + 1), abs=2)


def test_up_is_up_and_keys_stand_for_domains():
    lines = shown(CORNERS, TWO).splitlines()
    drawn = [line for line in lines[:-3] if line.strip()]
    assert "1" in drawn[0]
    assert "2" in drawn[-1]
    assert any(is_braille(character) for character in "".join(drawn))
    assert lines[-3:] == ["1 2 poems", "2 2 code", "1 in none"]


def test_a_domain_has_its_lasting_number_wherever_it_is_listed():
    lines = shown(CORNERS, Domains([7, 2], TWO.names, TWO.sizes, TWO.of)).splitlines()
    drawn = [line for line in lines[:-3] if line.strip()]
    assert "7" in drawn[0]
    assert "2" in drawn[-1]
    assert lines[-3:-1] == ["7 2 poems", "2 2 code"]
    lines = shown(CORNERS, Domains([700, 2], TWO.names, TWO.sizes, TWO.of)).splitlines()
    assert lines[-3:-1] == ["1 2 poems", "2 2 code"]


def test_only_a_terminal_gets_colors():
    assert "\x1b" not in shown(CORNERS, TWO)
    assert "\x1b[" in shown(CORNERS, TWO, terminal=True)


def test_names_cannot_style_or_steer():
    names = ["[red]x[/red]\x1b[31m\nsecond line", "\x9b31m\u2028[bold"]
    text = shown(CORNERS, Domains([1, 2], names, [2, 2], TWO.of), width=80)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "[red]x[/red]" in text
    assert "[bold" in text
    assert "\nsecond" not in text


@pytest.mark.parametrize("n", [1, 2])
def test_few_points(n):
    text = shown(CORNERS[:n], Domains([], [], [], [None] * n))
    assert sum(is_braille(character) for character in text) == n
