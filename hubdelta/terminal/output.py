"""Answers on standard output: tables for people, JSON, CSV and Parquet for programs."""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.schemas.errors import UsageError
from hubdelta.terminal.cells import jsonable
from hubdelta.terminal.screen import Screen, rows_of


def write_table(
    table: pa.Table,
    output_format: str,
    *,
    counts: str = "row",
    note: str = "",
    optional: Sequence[str] = (),
    empty: str = "",
) -> None:
    """Write an Arrow table to standard output.

    Args:
        table: the answer.
        output_format: table, json (a list of objects), csv, or parquet.
        counts: as `Screen.table` has it, as what follows; only for the format table.
        note: what else there is to say.
        optional: columns to leave out where the terminal is narrow.
        empty: the line to show in place of a table without rows.

    Raises:
        UsageError: Parquet to a terminal.
    """
    if output_format == "table":
        with Screen() as screen:
            screen.table(table, counts=counts, note=note, optional=optional, empty=empty)
    elif output_format == "json":
        print_json(table)
    elif output_format == "csv":
        sys.stdout.write(_csv(table))
    else:
        if sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal: add > FILE.parquet")
        _write_parquet(table, sys.stdout.buffer)


def print_json(answer: object) -> None:
    """Print dataclasses, Arrow tables, lists and dicts as JSON; NaN and infinity become null."""
    json.dump(jsonable(_unpacked(answer)), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def _unpacked(answer: object) -> Any:
    """Lists and dicts in place of dataclasses and tables."""
    if isinstance(answer, pa.Table):
        return rows_of(answer)
    if isinstance(answer, list):
        return [_unpacked(item) for item in answer]
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return {
            field.name: _unpacked(getattr(answer, field.name))
            for field in dataclasses.fields(answer)
        }
    return answer


def _csv(table: pa.Table) -> str:
    """RFC 4180 text; lists and maps, which CSV does not have, stand as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in rows_of(table):
        cells = (jsonable(value) for value in row.values())
        writer.writerow(
            json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict | bool) else cell
            for cell in cells
        )
    return text.getvalue()


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    stream.write(buffer.getvalue())
