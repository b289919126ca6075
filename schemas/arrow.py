"""Rows as Arrow tables and back; the Arrow schemas are derived from the row classes."""

from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import TypeVar, get_args, get_type_hints

import pyarrow as pa

from hubdelta.schemas.layout import SCHEMA_VERSION
from hubdelta.schemas.rows import Row

VERSION_KEY = b"hubdelta.schema_version"

R = TypeVar("R", bound=Row)


def schema_of(row_type: type[Row]) -> pa.Schema:
    """The Arrow schema of a table, with `description` and `unit` in each field's metadata."""
    hints = get_type_hints(row_type)
    return pa.schema(
        [
            pa.field(
                spec.name,
                spec.metadata["arrow"],
                nullable=NoneType in get_args(hints[spec.name]),
                metadata={
                    key: text
                    for key, text in (
                        ("description", spec.metadata["about"]),
                        ("unit", spec.metadata["unit"]),
                    )
                    if text
                },
            )
            for spec in fields(row_type)
        ],
        metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
    )


def table_of(rows: Sequence[Row], row_type: type[Row]) -> pa.Table:
    """Rows of one type as an Arrow table with that type's schema."""
    schema = schema_of(row_type)
    return pa.table(
        [pa.array([_cell(getattr(row, spec.name)) for row in rows], spec.type) for spec in schema],
        schema=schema,
    )


def rows_of(table: pa.Table, row_type: type[R]) -> list[R]:
    """The rows of an Arrow table as dataclasses; vectors come as Python lists."""
    maps = {spec.name for spec in schema_of(row_type) if pa.types.is_map(spec.type)}
    return [
        row_type(
            **{
                name: dict(cell) if name in maps and cell is not None else cell
                for name, cell in row.items()
            }
        )
        for row in table.to_pylist()
    ]


def _cell(value: object) -> object:
    return list(value.items()) if isinstance(value, dict) else value
