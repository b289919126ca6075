"""How a command answers: in tables and lines for people or, where it is asked to, for programs.

Each class is a set of options, which a command takes as one parameter. Nothing slow is imported
here, so that help and completion are quick.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hubdelta.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from hubdelta.terminal.screen import Screen

Format = Literal["table", "json", "csv", "parquet"]


@dataclass(frozen=True)
class Output:
    """A short answer: lines for people, or JSON."""

    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False

    @property
    def format(self) -> Format:
        """What is written."""
        return "json" if self.as_json else "table"

    def answer(self, answer: object, show: Callable[["Screen"], None]) -> None:
        """Write an answer.

        Args:
            answer: a dataclass, an Arrow table, or lists and dicts of these: for programs.
            show: writes it for a person.
        """
        if self.format != "table":
            from hubdelta.terminal.formats import WRITERS

            WRITERS[self.format](answer)
            return
        with self.screen() as screen:
            show(screen)

    def table(
        self,
        table: "pa.Table",
        *,
        people: "pa.Table | None" = None,
        counts: str = "row",
        note: str = "",
        optional: Sequence[str] = (),
        extra: Sequence[str] = (),
        empty: str = "",
    ) -> None:
        """Write a table; all but the first argument are for people alone, as in `Screen.table`.

        Args:
            table: the answer.
            people: what a person sees of it; all by default.
            counts: what a row is.
            note: what else there is to say.
            optional: columns to leave out where the terminal is narrow.
            extra: columns to leave out unless the terminal is wide.
            empty: the line to show in place of a table without rows.

        Raises:
            UsageError: Parquet to a terminal.
        """
        shown = table if people is None else people
        self.answer(
            table,
            lambda screen: screen.table(
                shown, counts=counts, note=note, optional=optional, extra=extra, empty=empty
            ),
        )

    def screen(self) -> "Screen":
        """Standard output as a person reads it."""
        from hubdelta.terminal.screen import Screen

        return Screen(pages=False)


@dataclass(frozen=True)
class PagedOutput(Output):
    """An answer that may be long: through the pager on a terminal, or JSON."""

    no_pager: Annotated[
        bool, typer.Option("--no-pager", help="Do not send long answers through PAGER.")
    ] = False

    def screen(self) -> "Screen":
        """Standard output as a person reads it."""
        from hubdelta.terminal.screen import Screen

        return Screen(pages=not self.no_pager)


@dataclass(frozen=True)
class CsvOutput(PagedOutput):
    """A table that may be long, and is perhaps edited.

    Raises:
        UsageError: two formats are asked for.
    """

    as_csv: Annotated[
        bool, typer.Option("--csv", help="Suggest as CSV, to be edited and read again.")
    ] = False

    def __post_init__(self) -> None:
        if self.as_csv and self.as_json:
            raise UsageError("--csv or --json: leave out one of the two")

    @property
    def format(self) -> Format:
        """What is written."""
        return "csv" if self.as_csv else super().format


@dataclass(frozen=True)
class QueryOutput(PagedOutput):
    """Answers of queries, in any format.

    Raises:
        UsageError: two formats are asked for.
    """

    output_format: Annotated[
        Format | None,
        typer.Option("--format", show_default="table", help="How to write the answer."),
    ] = None

    def __post_init__(self) -> None:
        if self.as_json and self.output_format not in {None, "json"}:
            raise UsageError(f"--json or --format {self.output_format}: leave out one of the two")

    @property
    def format(self) -> Format:
        """What is written."""
        return self.output_format or super().format

    def tables(self, answers: Iterable["pa.Table"]) -> None:
        """Write the answers of statements one after the other; a program gets one alone.

        Raises:
            UsageError: a file would hold several answers; or Parquet to a terminal.
        """
        if self.format != "table":
            first, *others = islice(answers, 2)
            if others:
                raise UsageError(
                    f"--format {self.format} holds the answer of one statement: run several "
                    "one by one"
                )
            answers = [first]
        for answer in answers:
            self.table(answer)
