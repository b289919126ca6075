"""How values are written in cells."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from hubdelta.terminal.cells import for_people, for_pipes

MOMENT = datetime(2026, 11, 20, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.070421, "distance", "0.0704"),
        (0.5, "distance", "0.5000"),
        (0.0, "distance", "0.0000"),
        (3.4e-05, "distance", "<0.0001"),
        (-3e-06, "similarity", "0.0000"),
        (-0.25, "to_a", "-0.2500"),
        (1.0, "confidence", "1.0000"),
        (2484201.4, "signal", "2,484,201"),
        (59.71, "signal", "59.7"),
        (1.0, "signal", "1.0"),
        (19.8312, "seconds", "19.83"),
        (1234.5, "norm", "1,234"),
        (float("nan"), "norm", "nan"),
        (1843, "downloads", "1,843"),
        (1843, "domain", "1843"),
        (2026, "year(created_at)", "2026"),
        (Decimal(12345), "sum", "12,345"),
        (True, "gated", "yes"),
        (None, "license", ""),
        (MOMENT, "started_at", "2026-11-20 03:04"),
        (["a", "b"], "datasets", "a, b"),
        ([0.5] * 9, "delta", "[0.5, 0.5, 0.5, 0.5, ... 9 values]"),
        ({"embedded": 29, "failed": 0}, "counts", "29 embedded"),
        ("\x1b[2J", "tags", "\N{REPLACEMENT CHARACTER}[2J"),
    ],
)
def test_a_person_reads_rounded_grouped_numbers(value, column, text):
    assert for_people(value, column) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.070421, "0.070421"),
        (2484201.4, "2484201.4"),
        (1843, "1843"),
        (None, ""),
        (float("nan"), ""),
        (True, "true"),
        (MOMENT, "2026-11-20T03:04:05+00:00"),
        ("a\tb\nc", "a b c"),
        ("\x1b[2J", "\N{REPLACEMENT CHARACTER}[2J"),
        (["a", "b"], "a, b"),
        ([0.5] * 6, "0.5, 0.5, 0.5, 0.5, 0.5, 0.5"),
        ([["a"]], '[["a"]]'),
        ({"k": 2}, '{"k": 2}'),
    ],
)
def test_a_program_reads_whole_values_in_one_line(value, text):
    assert for_pipes(value) == text
