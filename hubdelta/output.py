"""Answers on standard output: tables for people, JSON, CSV and Parquet for programs."""

import csv
import dataclasses
import io
import json
import math
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubdelta.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from hubdelta.index_run import IndexSummary

FORMATS = ("table", "json", "csv", "parquet")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PIPED_WIDTH = 100_000


def console() -> Console:
    """A console on standard output: as wide as the terminal, or unlimited into a pipe."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)


def write_table(table: "pa.Table", output_format: str) -> None:
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
        print_json(table.to_pylist())
    elif output_format == "csv":
        sys.stdout.write(_csv(table))
    else:
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal: add > FILE.parquet")
        _write_parquet(table, sys.stdout.buffer)


def print_table(table: "pa.Table") -> None:
    """Print an Arrow table for a person; texts from the Hub can neither style nor steer."""
    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in table.schema:
        numeric = str(column.type) in {"int8", "int16", "int32", "int64", "float", "double"}
        shown.add_column(_plain(column.name), justify="right" if numeric else "left")
    for row in table.to_pylist():
        shown.add_row(*(_plain(_text(value)) for value in row.values()))
    console().print(shown)
    rows = len(table)
    console().print(Text(f"{rows} row{'' if rows == 1 else 's'}", style="dim"))


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
    lines.append(f"  embedded  {summary.embedded} ({summary.adapters_per_second:.2f} adapters/s)")
    for title, counts in (("skipped", summary.skipped), ("failed", summary.failed)):
        why = ", ".join(f"{n} {reason}" for reason, n in counts.most_common())
        lines.append(f"  {title:<9} {counts.total()}" + (f" ({why})" if why else ""))
    console().print(Text("\n".join(lines)))


def _plain(text: str) -> Text:
    """Text that is shown as it is: no markup, no control characters."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if math.isfinite(value) else str(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list() if len(value) > _SHOWN and all(isinstance(item, float) for item in value):
            return f"[{', '.join(_text(item) for item in value[:_SHOWN])}, ... {len(value)} values]"
        case list():
            return ", ".join(_text(item) for item in value)
        case dict():
            return ", ".join(f"{_text(item)} {key}" for key, item in value.items())
        case _:
            return str(value)


_SHOWN = 4
"""Of a vector, so many components are shown."""


def _jsonable(value: object) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
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


def _csv(table: "pa.Table") -> str:
    """RFC 4180 text; lists and maps, which CSV does not have, stand as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        cells = (_jsonable(value) for value in row.values())
        writer.writerow(
            json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell
            for cell in cells
        )
    return text.getvalue()


def _write_parquet(table: "pa.Table", stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    stream.write(buffer.getvalue())
