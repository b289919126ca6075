"""What a command prints: paged tables that fit a terminal, or tab-separated lines."""

import os
import pydoc
import shlex
import shutil
import sys
from collections.abc import Sequence
from io import StringIO
from types import TracebackType
from typing import Any

import pyarrow as pa
from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hubdelta.schemas.errors import without_controls
from hubdelta.schemas.words import counted
from hubdelta.terminal.cells import for_people, for_pipes

_LEAST_TEXT = 12  # characters of a text column, which wraps
_EASY_TEXT = 32  # characters of one that is easy to read
_GAP = 2  # characters between two columns

_NAMES = frozenset({"adapter", "central", "nearest", "a", "b", "base"})
"""Columns of names to copy: other columns shrink before these are wrapped."""


class Screen:
    """Standard output, shown when the block ends.

    On a terminal, and if FORCE_COLOR is set, it shows rich tables, as wide as the terminal or as
    COLUMNS says; output longer than the screen goes through the pager. Otherwise columns are
    separated by tabs, values are complete, and notes for people go to standard error.

    Args:
        pages: whether the pager may be used.

    Attributes:
        is_plain: whether the output is for a program rather than a person.
    """

    def __init__(self, *, pages: bool = True) -> None:
        self._pages = pages
        terminal = sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
        self._text = StringIO()
        self._console = Console(force_terminal=terminal, highlight=False)
        self._drawing = Console(
            file=self._text,
            force_terminal=terminal,
            width=self._console.width,
            highlight=False,
        )
        self.is_plain = not terminal

    def __enter__(self) -> "Screen":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        text = self._text.getvalue()
        if error is None and self._is_long(text):
            _page(text)
        else:
            sys.stdout.write(text)

    def line(self, text: str = "", style: str = "") -> None:
        """A line of an answer, which may contain untrusted text."""
        if self.is_plain:
            self._text.write(without_controls(text) + "\n")
        else:
            self._drawing.print(Text(without_controls(text), style=style))

    def note(self, text: str) -> None:
        """A line about the answer that is not part of it."""
        if self.is_plain:
            print(without_controls(text), file=sys.stderr)
        else:
            self._drawing.print(Text(without_controls(text), style="dim"))

    def draw(self, shown: RenderableType) -> None:
        """A rich renderable, for people."""
        self._drawing.print(shown)

    def table(
        self,
        table: pa.Table,
        *,
        counts: str = "row",
        note: str = "",
        optional: Sequence[str] = (),
        extra: Sequence[str] = (),
        empty: str = "",
    ) -> None:
        """A table; texts from the Hub cannot style or control the terminal.

        Args:
            table: the rows.
            counts: what a row is; on a terminal, the line below a table says how many there are,
                unless this is empty.
            note: an additional note below it.
            optional: columns to leave out, in this order, if the terminal is narrow.
            extra: columns to leave out unless the terminal is wide.
            empty: the line to show instead of a table without rows.
        """
        if empty and not len(table):
            self.note(empty)
            return
        if self.is_plain:
            self._text.write("\t".join(table.column_names) + "\n")
            for row in rows_of(table):
                self._text.write("\t".join(for_pipes(value) for value in row.values()) + "\n")
            if note:
                self.note(note)
            return
        left_out = self._fitted(table, optional, extra)
        below = [counts and counted(len(table), counts), note]
        if left_out:
            below.append(f"{', '.join(left_out)}: in a wider terminal, or with --json")
        if any(below):
            self.note("; ".join(part for part in below if part))

    def _fitted(self, table: pa.Table, optional: Sequence[str], extra: Sequence[str]) -> list[str]:
        """Draw the columns that fit; returns those left out."""
        names = list(table.column_names)
        left_out: list[str] = []
        shown = _drawn(table)
        spare = [name for name in extra if name in names]
        if spare and _least_width(shown, _EASY_TEXT) > self._drawing.width:
            left_out += spare
            names = [name for name in names if name not in spare]
            shown = _drawn(table.select(names))
        for column in (column for column in optional if column in names):
            if _least_width(shown) <= self._drawing.width:
                break
            names.remove(column)
            left_out.append(column)
            shown = _drawn(table.select(names))
        if _least_width(shown) <= self._drawing.width:
            self._drawing.print(shown)
            return left_out
        self._records(table)
        return []

    def _records(self, table: pa.Table) -> None:
        """One field per line, for columns that do not fit side by side."""
        for number, row in enumerate(rows_of(table), 1):
            record = Table.grid(padding=(0, _GAP, 0, 0))
            record.add_column(no_wrap=True)
            record.add_column(overflow="fold")
            for name, value in row.items():
                record.add_row(_plain(name), _plain(for_people(value, name)))
            self._drawing.print(Text(f"row {number}", style="bold"))
            self._drawing.print(record)

    def _is_long(self, text: str) -> bool:
        return (
            self._pages
            and sys.stdout.isatty()
            and text.count("\n") >= self._console.height
            and _has_pager()
        )


def headed_table() -> Table:
    """An empty table in the common style."""
    return Table(
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),
    )


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of an Arrow table, maps as dicts."""
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="lossy")
    return rows


def _drawn(table: pa.Table) -> Table:
    shown = headed_table()
    for column in table.schema:
        numeric = (
            pa.types.is_integer(column.type)
            or pa.types.is_floating(column.type)
            or pa.types.is_decimal(column.type)
        )
        shown.add_column(
            _plain(column.name),
            justify="right" if numeric else "left",
            no_wrap=numeric or column.name in _NAMES,
            overflow="fold",
            min_width=cell_len(column.name),
        )
    for row in rows_of(table):
        shown.add_row(*(_plain(for_people(value, name)) for name, value in row.items()))
    return shown


def _least_width(table: Table, least_text: int = _LEAST_TEXT) -> int:
    """The width that a table needs to keep names and numbers unwrapped, and texts this wide."""
    columns = (
        max((cell_len(str(cell)) for cell in column.cells), default=0)
        if column.no_wrap
        else min(least_text, max((cell_len(str(cell)) for cell in column.cells), default=0))
        for column in table.columns
    )
    headers = (cell_len(str(column.header)) for column in table.columns)
    widths = [max(pair) for pair in zip(columns, headers, strict=True)]
    return sum(widths) + _GAP * (len(widths) - 1)


def _plain(text: str) -> Text:
    """Text that is shown as it is: no markup, no control characters."""
    return Text(without_controls(text))


def _has_pager() -> bool:
    command = shlex.split(os.environ.get("PAGER", "less"))
    return bool(command) and command[0] != "cat" and shutil.which(command[0]) is not None


def _page(text: str) -> None:
    # As git does: output that fits the screen stays on it, and colors are shown.
    os.environ.setdefault("LESS", "FRX")
    pydoc.pager(text)
