"""Phrases shared by many messages."""

from collections.abc import Sequence


def counted(count: int, noun: str, plural: str = "") -> str:
    """As in: 1 row, 2,000 rows."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def either(choices: Sequence[str]) -> str:
    """As in: one, two or three."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
