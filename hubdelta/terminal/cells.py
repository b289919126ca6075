"""Formatting values in cells: rounded and grouped for people, complete for programs."""

import json
import math
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from hubdelta.schemas.errors import without_controls

_RATIOS = frozenset(
    {
        *("similarity", "distance", "distance_to_a", "distance_to_b", "to_a", "to_b"),
        *("confidence", "strength", "cohesion", "silhouette", "centrality"),
    }
)
"""Columns of numbers around 0 to 1, always shown with four decimals."""

_LABELS = frozenset({"domain", "cluster", "position", "place"})
"""Columns whose numbers name something, rather than count it."""

_SHOWN = 4
"""How many components of a vector to show."""


def for_people(value: object, column: str = "") -> str:
    """A value as a table cell on a terminal.

    Distances and other ratios have four decimals, a signal one up to 100 and none above, other
    numbers four digits or, from 1,000 on, no decimals; thousands are grouped. Times are UTC, to the
    minute.

    Args:
        value: the value.
        column: the name of its column, which identifies ratios and numbers that are names.
    """
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return for_people(number(value), column)
        case int():
            return str(value) if column in _LABELS or "year" in column else f"{value:,}"
        case float():
            return _float(value, column)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M}"
        case list() if len(value) > _SHOWN and all(isinstance(item, float) for item in value):
            shown = ", ".join(for_people(item) for item in value[:_SHOWN])
            return f"[{shown}, ... {len(value)} values]"
        case list():
            return ", ".join(for_people(item) for item in value)
        case dict():
            return ", ".join(f"{for_people(item)} {key}" for key, item in value.items() if item)
        case _:
            return without_controls(str(value))


def for_pipes(value: object) -> str:
    """A value between two tabs: complete, on one line."""
    plain = jsonable(value)
    match plain:
        case None:
            return ""
        case list() if not any(isinstance(item, list | dict) for item in plain):
            return ", ".join(for_pipes(item) for item in plain)
        case list() | dict() | bool():
            return json.dumps(plain, ensure_ascii=False)
        case str():
            return without_controls(" ".join(plain.split()))
        case _:
            return str(plain)


def jsonable(value: object) -> Any:
    """A value for JSON; NaN and infinity become null."""
    match value:
        case Decimal():
            return number(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case list() | tuple():
            return [jsonable(item) for item in value]
        case dict():
            return {str(key): jsonable(item) for key, item in value.items()}
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)


def number(value: Decimal) -> int | float:
    """A plain number for a decimal: DuckDB's sums of integers are decimals without places."""
    return int(value) if value == value.to_integral_value() else float(value)


def _float(value: float, column: str) -> str:
    if not math.isfinite(value):
        return str(value)
    if column in _RATIOS:
        # Copies are about 1e-5 apart: near, but not equal.
        return "<0.0001" if 0 < value < 5e-5 else f"{value:.4f}".replace("-0.0000", "0.0000")
    if column == "signal":
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
