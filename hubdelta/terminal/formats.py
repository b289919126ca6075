"""Answers for programs: JSON, CSV and Parquet on standard output."""

import csv
import dataclasses
import io
import json
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.schemas.errors import UsageError
from hubdelta.terminal.cells import jsonable
from hubdelta.terminal.screen import rows_of


def write_json(answer: object) -> None:
    """Write dataclasses, Arrow tables, lists and dicts as JSON; NaN and infinity become null."""
    json.dump(jsonable(_unpacked(answer)), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def write_csv(table: pa.Table) -> None:
    """Write a table as RFC 4180 text; lists and maps, which CSV does not have, stand as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in rows_of(table):
        cells = (jsonable(value) for value in row.values())
        writer.writerow(
            json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict | bool) else cell
            for cell in cells
        )
    sys.stdout.write(text.getvalue())


def write_parquet(table: pa.Table) -> None:
    """Write a table as a Parquet file.

    Raises:
        UsageError: to a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: add > FILE.parquet")
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    sys.stdout.buffer.write(buffer.getvalue())


WRITERS = {"json": write_json, "csv": write_csv, "parquet": write_parquet}


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
