"""A user's labels: a CSV file, checked as a whole; only what changed is stored."""

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from hubdelta.schemas.errors import UsageError, printable, without_controls
from hubdelta.schemas.index import Index
from hubdelta.schemas.keys import AdapterName, is_path
from hubdelta.schemas.rows import LabelRow
from hubdelta.schemas.words import counted
from hubdelta.sql.connection import Queries, connect

logger = logging.getLogger(__name__)

COLUMNS: Final = ("adapter", "label")

_LONGEST_LABEL: Final = 100  # characters; it becomes a domain's name
_SEPARATORS: Final = {",": "comma", ";": "semicolon", "\t": "tab"}

_NAMED: Final = 3
"""How many of the adapters unknown to an index to name."""


@dataclass(frozen=True)
class LabelSummary:
    """Counts of a file's labels, in adapters.

    Attributes:
        set: had none before.
        changed: had another.
        unchanged: had the same, or none and an empty label.
        removed: had one, and an empty label.
        unknown: names that the index does not have; their labels are not stored.
    """

    set: int
    changed: int
    unchanged: int
    removed: int
    unknown: list[str]


def read_labels(file: BinaryIO, name: str) -> dict[str, str | None]:
    """The labels in a CSV file (RFC 4180, UTF-8); its first line names the columns.

    If that line uses semicolons or tabs, as spreadsheets in some countries do, so do the others.

    Args:
        file: the file. Columns other than `adapter` and `label` are ignored, so that suggestions
            can be edited and read back.
        name: the file's name in messages.

    Returns:
        Adapter → label; None if the label is empty. Labels that differ only in case are one label,
        in the spelling of the first.

    Raises:
        UsageError: a line is wrong; the message says which.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    lines = csv.reader([])
    labels: dict[str, str | None] = {}
    spellings: dict[str, str] = {}
    try:
        first = text.readline()
        separator = next(
            (one for one in _SEPARATORS if set(COLUMNS) <= set(_header(first, one))), ","
        )
        lines = csv.reader(chain([first], text), delimiter=separator, strict=True)
        header = _header(first, separator)
        next(lines, None)
        if not set(COLUMNS) <= set(header):
            raise UsageError(
                f"its columns must include {' and '.join(COLUMNS)}, and are "
                f"{printable(', '.join(header))[:_LONGEST_LABEL] or 'none'}"
            )
        places = [header.index(column) for column in COLUMNS]
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"it has {counted(len(cells), 'cell')}, the first line has {len(header)}: "
                    f"put a cell that holds a {_SEPARATORS[separator]} in quotes"
                )
            adapter, label = (cells[place] for place in places)
            key, value = _adapter(adapter), _label(label)
            if value is not None:
                value = spellings.setdefault(value.lower(), value)
            if labels.setdefault(key, value) != value:
                raise UsageError(f"{key} has a different label in an earlier line")
    except (UsageError, csv.Error) as error:
        raise UsageError(f"{name}, line {max(lines.line_num, 1)}: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text: save it as CSV UTF-8") from error
    finally:
        text.detach()
    if not labels:
        raise UsageError(f"{name} holds no labels")
    return labels


def _header(line: str, separator: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=separator), [])
    return [cell.strip().lower() for cell in cells]


def set_labels(index: Index, labels: Mapping[str, str | None]) -> LabelSummary:
    """Store those labels that changed; the index must be held.

    Args:
        index: the index.
        labels: adapter → label; None removes it.

    Raises:
        IndexWriteError: no space, no permission.
        DamagedFileError: a table has no readable file.
    """
    with connect(index) as queries:
        present = queries.run("SELECT adapter, label FROM labels")
        before = dict(zip(*(present[name].to_pylist() for name in COLUMNS), strict=True))
        rows = queries.run("SELECT adapter FROM adapters UNION SELECT adapter FROM comparable")
        known = before.keys() | set(rows["adapter"].to_pylist())
        unknown = sorted(labels.keys() - known)
        if unknown:
            logger.warning("%s", _unknown_line(queries, unknown))
    now = datetime.now(UTC)
    news = {
        adapter: label
        for adapter, label in labels.items()
        if adapter in known and before.get(adapter) != label
    }
    index.write([LabelRow(adapter=a, label=label, labelled_at=now) for a, label in news.items()])
    removed = sum(label is None for label in news.values())
    changed = sum(adapter in before for adapter in news) - removed
    return LabelSummary(
        set=len(news) - changed - removed,
        changed=changed,
        unchanged=len(labels) - len(unknown) - len(news),
        removed=removed,
        unknown=unknown,
    )


def _adapter(text: str) -> str:
    """The name as in the views; a local folder need not exist anymore."""
    _check_printable(text)
    text = text.strip()
    if is_path(text):
        try:
            return Path(text).expanduser().resolve().as_posix()
        except (OSError, RuntimeError) as error:  # an unknown home or a broken link
            raise UsageError(f"{text}: {error}") from error
    adapter = AdapterName.parse(text)
    if adapter.commit or (adapter.revision and not adapter.subfolder):  # else a folder's name
        raise UsageError(f"{text}: a label applies to all revisions, so omit @{adapter.revision}")
    return str(adapter)


def _label(text: str) -> str | None:
    _check_printable(text)
    label = " ".join(text.split())
    if len(label) > _LONGEST_LABEL:
        raise UsageError(f"labels have at most {_LONGEST_LABEL} characters, this one {len(label)}")
    return label or None


def _check_printable(text: str) -> None:
    if without_controls(text) != text:
        raise UsageError("it contains control characters")


def _unknown_line(queries: Queries, unknown: list[str]) -> str:
    """Which adapters the index does not know, with suggestions."""
    named = []
    for name in unknown[:_NAMED]:
        rows = queries.run(
            "SELECT adapter, jaro_winkler_similarity(lower(adapter), lower($name)) AS likeness"
            " FROM adapters WHERE likeness > 0.8 ORDER BY likeness DESC, adapter LIMIT 1",
            {"name": name},
        ).to_pylist()
        named.append(f"{name} (did you mean {rows[0]['adapter']}?)" if rows else name)
    more = ["..."] if len(unknown) > _NAMED else []
    count = f"{len(unknown)} adapter{' is' if len(unknown) == 1 else 's are'}"
    return f"{count} not in the index, and not labeled: {', '.join(named + more)}"
