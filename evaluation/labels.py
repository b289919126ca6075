"""Which label each adapter has, and which labels can be scored."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.words import counted

GROUP: Final = "label"
"""The group of a pattern that holds the label."""

_LEAST: Final = 3
"""Adapters that a silhouette needs: two of one label, and another."""


@dataclass(frozen=True)
class Labeled:
    """Adapters with labels.

    Attributes:
        labels: adapter → label, sorted by adapter; each label has at least two.
        alone: adapters dropped because no other has their label, with it.
    """

    labels: dict[str, str]
    alone: dict[str, str]


def labels_by_pattern(names: Iterable[str], pattern: str) -> dict[str, str]:
    """The labels that a regular expression finds in the names of adapters.

    Args:
        names: the adapters.
        pattern: has a group `(?P<label>…)`; searched for anywhere in a name.

    Returns:
        Adapter → label, for the names that match.

    Raises:
        UsageError: it is no regular expression, or has no such group.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
    if GROUP not in compiled.groupindex:
        raise UsageError(f"{pattern!r} has no group (?P<{GROUP}>...), which holds the label")
    found = {name: compiled.search(name) for name in names}
    return {name: match[GROUP] for name, match in found.items() if match and match[GROUP]}


def scorable(labels: Mapping[str, str], source: str) -> Labeled:
    """The labels that can be scored: those with several members, as in the paper.

    Args:
        labels: adapter → label.
        source: where they come from, in messages.

    Raises:
        UsageError: fewer than three adapters, or a single label, remain.
    """
    kept, alone = split(labels)
    if len(labels) < _LEAST:
        raise UsageError(
            f"a silhouette needs at least three labeled adapters with vectors, and {source} "
            f"{'labels' if labels else 'label'} {len(labels) or 'none'}"
        )
    if len(set(labels.values())) == 1:
        (label,) = set(labels.values())
        raise UsageError(f"all {counted(len(labels), 'adapter')} have the label {label!r}")
    if len(set(kept.values())) < 2:
        raise UsageError(
            f"fewer than two labels have several adapters: {_sizes(labels)}; scores need two"
        )
    return Labeled(kept, alone)


def split(labels: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Adapters whose label others have too, and those alone with theirs; each sorted by name."""
    sizes = Counter(labels.values())
    ordered = sorted(labels.items())
    return (
        {adapter: label for adapter, label in ordered if sizes[label] > 1},
        {adapter: label for adapter, label in ordered if sizes[label] == 1},
    )


def _sizes(labels: Mapping[str, str]) -> str:
    """As in: code 3, law 1, ..."""
    common = Counter(labels.values()).most_common()
    shown = ", ".join(f"{label} {size}" for label, size in common[:3])
    return f"{shown}, ..." if len(common) > 3 else shown
