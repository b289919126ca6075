"""The list of every view and macro that a query may name.

It is the source of their comments, the macros that a read-only connection allows, what is updated
before a query, completion, and the list in `hubdelta sql --help`. The SQL itself is in views/;
descriptions of the views' columns are in columns.py. Neither DuckDB nor Arrow is imported here, so
that help is fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hubdelta.schemas.defaults import (
    DISTANCE,
    DUPLICATE_DISTANCE,
    LARGEST_DISTANCE,
    NEIGHBORS,
    VOTERS,
)

Default = float | bool | None

_KEYWORDS = frozenset({"between"})
"""Names that are SQL keywords, which a query has to quote."""


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        name: as a query writes it, without its schema.
        about: its comment: what its rows are.
        needs_linkage: whether it reads the linkage.
    """

    name: str
    about: str
    needs_linkage: bool = False


@dataclass(frozen=True)
class Macro:
    """A macro.

    Attributes:
        name: its name, without quotes and schema.
        required: positional parameters.
        optional: parameters given as `name := value`, with their defaults.
        about: its comment: what it answers.
        columns: of its answer; empty if it is a scalar.
        needs_linkage: whether it reads the linkage.
    """

    name: str
    required: tuple[str, ...]
    about: str
    columns: tuple[str, ...] = ()
    optional: Mapping[str, Default] = field(default_factory=dict)
    needs_linkage: bool = False

    @property
    def quoted(self) -> str:
        """The name as a query has to write it."""
        return quoted(self.name)

    @property
    def signature(self) -> str:
        """As in: neighbors(adapter, k := 10)."""
        parameters = [
            *self.required,
            *(f"{name} := {literal(default)}" for name, default in self.optional.items()),
        ]
        return f"{self.quoted}({', '.join(parameters)})"


def quoted(name: str) -> str:
    """A name as a query has to write it."""
    return f'"{name}"' if name in _KEYWORDS else name


def literal(value: Default) -> str:
    """A default as SQL."""
    if isinstance(value, bool):
        return str(value).lower()
    return "NULL" if value is None else str(value)


VIEWS: Final = (
    View(
        "adapters",
        "The newest revision of each adapter of each base, with everything known about it",
    ),
    View(
        "catalog",
        "Every state in which the Hub listed an adapter: a row per (key, crawl that saw it change)",
    ),
    View("vectors", "Every vector: a row per (key, recipe)"),
    View(
        "comparable",
        "Every vector that is more than noise, and which of them represents its adapter",
    ),
    View("failures", "Every attempt that gave no vector"),
    View(
        "bases",
        "Each base's own response to the probes: a row per (recipe, engine, precision, run)",
    ),
    View("runs", "Every crawl and index run, written when it ends"),
    View(
        "clusters",
        "The density cluster of each adapter that has one; every run updates them",
    ),
    View(
        "labels",
        "What the user says adapters are for: the newest label of each, as `hubdelta label` set it",
    ),
    View(
        "promotions",
        "The tokens that each adapter makes more and less likely, by its delta and the base's "
        "output layer",
    ),
    View(
        "maps",
        "The position of each adapter on the newest map of its base and recipe; "
        "`hubdelta explore` makes them",
    ),
    View(
        "spaces",
        "Each adapter in the spaces that `hubdelta evaluate` compares with deltas",
    ),
)
"""The views in schema `main`."""

_KEY = ("base", "repo_id", "subfolder", "revision")
_FACTS = ("signal", "downloads", "license", "datasets")
_PAIR = ("a", "b", "similarity", "distance", "base")

MACROS: Final = (
    Macro(
        "neighbors",
        ("adapter",),
        "The k adapters most similar to an adapter, nearest first; exact compares with every one",
        ("adapter", "similarity", "distance", *_FACTS, *_KEY),
        {"k": NEIGHBORS, "exact": False},
    ),
    Macro(
        "within",
        ("adapter",),
        "Adapters no further from an adapter than a cosine distance, nearest first; "
        "exact compares with every one",
        ("adapter", "similarity", "distance", *_FACTS, *_KEY),
        {"distance": DISTANCE, "exact": False},
    ),
    Macro(
        "similarity",
        ("a", "b"),
        "Cosine of two adapters in their latest common recipe; null if they cannot be compared",
    ),
    Macro(
        "pairs",
        ("base",),
        "Every pair of adapters of a base (null: of each base) within a cosine distance",
        _PAIR,
        {"distance": LARGEST_DISTANCE, "exact": False},
        needs_linkage=True,
    ),
    Macro(
        "duplicates",
        ("base",),
        "Pairs of adapters of a base that are nearly identical, nearest first",
        _PAIR,
        {"distance": DUPLICATE_DISTANCE, "exact": False},
        needs_linkage=True,
    ),
    Macro(
        "domains",
        ("base",),
        "Domains of a base (null: of each base): number, name, size, central member, members, "
        "method; density clusters, or linkage",
        ("domain", "name", "size", "central", "members", "base", "method"),
        {"distance": None},
        needs_linkage=True,
    ),
    Macro(
        "domain_terms",
        ("base",),
        "What names the domains of a base (null: of each base): labels, then terms by class-based "
        "TF-IDF",
        ("base", "domain", "term", "source", "inside", "outside", "weight", "place"),
        {"distance": None},
        needs_linkage=True,
    ),
    Macro(
        "suggestions",
        ("base",),
        "Labels for the unlabeled adapters of a base (null: of each base), by their labeled "
        "neighbors",
        ("adapter", "label", "confidence", "votes", "nearest", "distance", "base"),
        {"k": VOTERS, "distance": DISTANCE},
    ),
    Macro(
        "compare",
        ("a", "b"),
        "Two adapters side by side: similarity, shared neighbors, vectors and metadata, a row each",
        ("property", "a", "b"),
    ),
    Macro(
        "promotes",
        ("adapter",),
        "The tokens that an adapter makes more likely, and those it makes less likely (change "
        "below 0), strongest first",
        ("token", "change", "base", "pool"),
    ),
    Macro(
        "between",
        ("a", "b"),
        "The k adapters most similar to the sum of two adapters, nearest first",
        ("adapter", "similarity", "distance", "to_a", "to_b", *_FACTS, *_KEY),
        {"k": NEIGHBORS},
    ),
    Macro(
        "outliers",
        ("base",),
        "The k adapters of a base (null: of all) whose nearest other one is farthest away, those "
        "first",
        (
            *("adapter", "nearest", "distance", "signal", "norm", "adapter_type"),
            *("downloads", "license", "datasets", *_KEY),
        ),
        {"k": NEIGHBORS},
        needs_linkage=True,
    ),
    Macro(
        "new_since",
        ("since",),
        "Adapters that are new, updated or first embedded since a date or time, newest first",
        (
            *("adapter", "base", "change", "status", "reason", "seen_at", "embedded_at"),
            *("cluster", *_FACTS, "author"),
        ),
    ),
)
"""The macros in schema `main`."""

HELPERS: Final[Mapping[str, bool]] = {
    "vectors_of": False,
    "sum_of": False,
    "shared_neighbors": False,
    "side_by_side": False,
    "components": True,
}
"""Macros of schema `hubdelta` that questions/ calls, and whether each needs the linkage."""

TABLE_MACROS: Final = frozenset({macro.name for macro in MACROS if macro.columns} | HELPERS.keys())
"""The names of the table macros that queries may call."""

NEED_LINKAGE: Final = frozenset(
    {
        "linkage",  # the view over the linkage itself, in schema `hubdelta`
        *(one.name for one in (*VIEWS, *MACROS) if one.needs_linkage),
        *(name for name, needs_linkage in HELPERS.items() if needs_linkage),
    }
)
"""The names of views and macros that read the linkage, in either schema."""


def listing() -> str:
    """The views and macros as two paragraphs of a help text."""
    views = ", ".join(view.name for view in VIEWS)
    macros = ", ".join(macro.signature for macro in MACROS)
    return f"Views: {views}.\n\nMacros: {macros}."
