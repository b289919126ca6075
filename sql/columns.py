"""Descriptions of the views' columns: those of the row classes of schemas/ unless they differ."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from hubdelta.schemas.rows import (
    BaseRow,
    CatalogRow,
    ClusterRow,
    FailureRow,
    MapRow,
    PromotionRow,
    Row,
    RunRow,
    SpaceRow,
    VectorRow,
)
from hubdelta.sql.vocabulary import MACROS


def described(row_type: type[Row], names: str = "", *, without: str = "") -> dict[str, str]:
    """Columns of a stored table with their meanings, as in: wall time [seconds].

    Args:
        row_type: the table.
        names: the columns, separated by spaces; all of them if empty.
        without: a column to leave out.
    """
    columns = {
        spec.name: f"{spec.metadata['about']} [{spec.metadata['unit']}]"
        if spec.metadata["unit"]
        else str(spec.metadata["about"])
        for spec in fields(row_type)
    }
    return {name: columns[name] for name in names.split() or columns if name != without}


_ADAPTER = {"adapter": "org/name[/subfolder], or a local folder: what the macros take"}

COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {
    "catalog": _ADAPTER | described(CatalogRow),
    "vectors": _ADAPTER | described(VectorRow),
    "failures": _ADAPTER | described(FailureRow),
    "bases": described(BaseRow),
    "runs": described(RunRow),
    "maps": described(MapRow),
    "promotions": described(PromotionRow),
    "spaces": described(SpaceRow),
    "adapters": _ADAPTER
    | {
        "status": "embedded, pending (no attempt at this revision yet), failed, or vanished from "
        "the Hub"
    }
    | described(CatalogRow, without="run_id")
    | {"kind": "adapter (PEFT) or full (a full finetune)"}
    | {"reason": "why the newest attempt at this revision failed; null unless status is failed"}
    | described(FailureRow, "message attempt failed_at due_at")
    | {
        "recipe_id": "recipe of the newest vector of this revision; null, like the columns that "
        "follow, if it has none"
    }
    | described(
        VectorRow,
        "base_revision probe_set norm signal engine precision adapter_type rank alpha"
        " target_modules weight_bytes embedded_at",
    )
    | described(PromotionRow, "promotes suppresses"),
    "comparable": _ADAPTER
    | described(VectorRow, "base repo_id subfolder revision recipe_id")
    | {
        "current": "represents the adapter in its recipe: its current revision, or else the one "
        "embedded last",
        "newest": "current, and in the recipe in which the adapter was embedded last: one per "
        "(base, adapter)",
    }
    | described(VectorRow, "signal delta embedded_at"),
    "labels": _ADAPTER | {"label": "the user's label", "labelled_at": "when it was set"},
    "clusters": described(ClusterRow, "base cluster")
    | {"size": "adapters in the cluster [adapters]"}
    | _ADAPTER
    | {
        "strength": "how strongly it belongs to the cluster, 0 to 1 [ratio]",
        "is_medoid": "whether it is the member most similar to the others",
        "cohesion": "mean cosine similarity of the members to each other",
        "silhouette": "mean silhouette of the members by cosine distance; null if there is no "
        "other cluster",
    }
    | described(ClusterRow, "recipe_id")
    | {"clustered_at": "when the cluster last changed"},
}
"""The columns of each view in schema `main`, in order, with their descriptions."""


def names() -> list[str]:
    """Everything that a query may name, sorted: views, macros, and the columns of both."""
    return sorted(
        {
            *COLUMNS,
            *(column for columns in COLUMNS.values() for column in columns),
            *(macro.quoted for macro in MACROS),
            *(column for macro in MACROS for column in macro.columns),
        }
    )
