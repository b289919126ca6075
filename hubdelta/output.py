"""Answers on standard output: tables for people, JSON, CSV and Parquet for programs."""

import csv
import dataclasses
import io
import json
import math
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubdelta.schemas.errors import UsageError, without_controls

if TYPE_CHECKING:
    from hubdelta.index_run import IndexSummary
    from hubdelta.sql.status import IndexStatus

_PIPED_WIDTH = 100_000
_LEAST_TEXT = 8  # characters of a text column, which folds

_NAMES = frozenset({"adapter", "central", "a", "b"})
"""Columns that hold names to copy from: other columns give way before they are broken."""


def console() -> Console:
    """A console on standard output: as wide as the terminal, or unlimited into a pipe."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)


def write_table(table: pa.Table, output_format: str) -> None:
    """Write an Arrow table to standard output.

    Args:
        table: the answer.
        output_format: table, json (a list of objects), csv, or parquet.

    Raises:
        UsageError: Parquet to a terminal.
    """
    if output_format == "table":
        print_table(table)
    elif output_format == "json":
        print_json(table)
    elif output_format == "csv":
        sys.stdout.write(_csv(table))
    else:
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal: add > FILE.parquet")
        _write_parquet(table, sys.stdout.buffer)


def print_table(table: pa.Table, *, caption: str | None = None) -> None:
    """Print an Arrow table for a person; texts from the Hub can neither style nor steer.

    Args:
        table: the rows.
        caption: the last line; by default how many rows there are.
    """
    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
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
            min_width=len(column.name),
        )
    for row in _rows(table):
        shown.add_row(*(_plain(_text(value)) for value in row.values()))
    out = console()
    if _least_width(shown) <= out.width:
        out.print(shown)
    else:
        _print_records(table, out)
    rows = f"{len(table)} row{'' if len(table) == 1 else 's'}"
    console().print(Text(caption or rows, style="dim"))


def _least_width(table: Table) -> int:
    """Characters that a table needs if only names and numbers are to stay whole."""
    columns = (
        max(map(cell_len, map(str, column.cells)), default=0) if column.no_wrap else _LEAST_TEXT
        for column in table.columns
    )
    headers = (cell_len(str(column.header)) for column in table.columns)
    return sum(max(pair) + 3 for pair in zip(columns, headers, strict=True))


def _print_records(table: pa.Table, out: Console) -> None:
    """A field a line, where the columns do not fit beside each other."""
    for number, row in enumerate(_rows(table), 1):
        record = Table.grid(padding=(0, 2))
        for name, value in row.items():
            record.add_row(_plain(name), _plain(_text(value)))
        out.print(Text(f"row {number}", style="bold"))
        out.print(record)


def print_json(answer: object) -> None:
    """Print dataclasses, lists and dicts as JSON; NaN and infinity become null."""
    json.dump(_jsonable(answer), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_fields(answer: object) -> None:
    """Print a dataclass as aligned lines, a field a line."""
    shown = Table.grid(padding=(0, 2))
    for name, value in _jsonable(answer).items():
        if value not in (None, {}, []):
            shown.add_row(_plain(name.replace("_", " ")), _plain(_text(value)))
    console().print(shown)


def print_index_summary(summary: "IndexSummary") -> None:
    """Print how an index run ended, for a person."""
    lines = [
        f"{summary.base} at {summary.base_revision[:12]}: {summary.outcome} "
        f"in {summary.seconds:.1f} s"
    ]
    if summary.crawl:
        crawl = summary.crawl
        lines.append(
            f"  crawled   {crawl.listed} listed: {crawl.new} new, {crawl.changed} changed "
            f"({crawl.requests} requests)"
        )
    rate = f"{summary.adapters_per_second:.2f} adapters/s after the crawl"
    lines.append(f"  embedded  {summary.embedded} ({rate})")
    if summary.fetched_bytes:
        lines.append(
            f"  fetched   {summary.fetched_bytes / 1e6:.1f} MB, "
            f"{summary.needed_bytes / 1e6:.1f} MB of it for these vectors"
        )
    for title, counts in (("skipped", summary.skipped), ("failed", summary.failed)):
        why = ", ".join(f"{n} {reason}" for reason, n in counts.most_common())
        lines.append(f"  {title:<9} {counts.total()}" + (f" ({why})" if why else ""))
    if summary.busy:
        longest = sorted(summary.busy.items(), key=lambda stage: -stage[1])
        lines.append("  busy      " + ", ".join(f"{name} {s:.1f} s" for name, s in longest))
    console().print(Text("\n".join(lines)))


def print_status(status: "IndexStatus") -> None:
    """Print the state of an index, for a person."""
    out = console()
    size = f"{status.bytes / 1e6:.1f} MB in {status.files} files"
    out.print(Text(f"{status.root}: {size}", style="bold"))
    if not status.bases:
        out.print(Text("empty: run `hubdelta index --base ORG/NAME`"))
    for base in status.bases:
        age = base.crawl_age
        crawled = "never crawled" if age is None else f"crawled {_ago(age)} ago"
        out.print(Text(f"\n{base.base}, {crawled}", style="bold"))
        failed = ", ".join(f"{n} {reason}" for reason, n in base.failed.items())
        counts = Table.grid(padding=(0, 2))
        for title, count, note in (
            ("known", base.known, ""),
            ("embedded", base.embedded, ""),
            ("pending", base.pending, ""),
            ("failed", sum(base.failed.values()), failed),
            ("vanished", base.vanished, ""),
        ):
            counts.add_row(f"  {title}", Text(str(count), justify="right"), _plain(note))
        out.print(counts)
    if len(status.runs):
        out.print()
        columns = ["started_at", "kind", "base", "outcome", "seconds", "requests"]
        runs = status.runs.select(columns)
        totals = [
            {what: n for what, n in row["counts"].items() if ":" not in what}
            for row in _rows(status.runs)
        ]
        counts = pa.array([list(row.items()) for row in totals], status.runs["counts"].type)
        print_table(runs.append_column("counts", counts), caption="last runs")


def _ago(age: timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    days, hours = minutes // 1440, minutes // 60
    return f"{days} days" if days > 1 else f"{hours} h" if hours else f"{minutes} min"


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist(maps_as_pydicts="lossy")
    return rows


def _plain(text: str) -> Text:
    """Text that is shown as it is: no markup, no control characters."""
    return Text(without_controls(text))


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return str(_number(value))
        case float() if 1e4 <= abs(value) < 1e15:
            return f"{value:,.0f}"
        case float():
            return f"{value:.4g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list() if len(value) > _SHOWN and all(isinstance(item, float) for item in value):
            return f"[{', '.join(_text(item) for item in value[:_SHOWN])}, ... {len(value)} values]"
        case list():
            return ", ".join(_text(item) for item in value)
        case dict():
            return ", ".join(f"{_text(item)} {key}" for key, item in value.items() if item)
        case _:
            return str(value)


_SHOWN = 4
"""Of a vector, so many components are shown."""


def _jsonable(value: object) -> Any:
    match value:
        case Decimal():
            return _number(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case pa.Table():
            return _jsonable(_rows(value))
        case list() | tuple():
            return [_jsonable(item) for item in value]
        case dict():
            return {str(key): _jsonable(item) for key, item in value.items()}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {
                field.name: _jsonable(getattr(value, field.name))
                for field in dataclasses.fields(value)
            }
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


def _number(value: Decimal) -> int | float:
    """DuckDB's sums of integers come as decimals without places."""
    return int(value) if value == value.to_integral_value() else float(value)


def _csv(table: pa.Table) -> str:
    """RFC 4180 text; lists and maps, which CSV does not have, stand as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in _rows(table):
        cells = (_jsonable(value) for value in row.values())
        writer.writerow(
            json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell
            for cell in cells
        )
    return text.getvalue()


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    stream.write(buffer.getvalue())
