"""A row of scores for each space, from what the index holds."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubdelta.evaluation.kept import Kept
from hubdelta.evaluation.labels import Labeled, split
from hubdelta.evaluation.members import Family, Member, index_effort, read_deltas
from hubdelta.evaluation.scores import Scores, score
from hubdelta.evaluation.similarity import centered, cosines
from hubdelta.evaluation.spaces import DELTA, OUTPUTS, PCA, Space
from hubdelta.sql.connection import Queries

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class LeftOut:
    """Adapters that a space cannot represent.

    Attributes:
        adapter_type: their PEFT type, or FULL.
        why: why not.
        adapters: their names.
    """

    adapter_type: str
    why: str
    adapters: list[str]


@dataclass(frozen=True)
class SpaceScores:
    """How well one space tells labels apart.

    Attributes:
        space: its name.
        about: its definition, in a sentence.
        adapters: those that are scored, sorted.
        labels: of each of them.
        cosines: similarity of each pair [n, n].
        dimension: coordinates in the space.
        scores: None if fewer than two labels have several adapters in it.
        seconds: what computing it took, in this run or earlier: for delta, all index runs.
        fetched_bytes: what was received from the Hub for it, likewise.
        left_out: adapters with labels that it cannot represent.
    """

    space: str
    about: str
    adapters: list[str]
    labels: list[str]
    cosines: Matrix
    dimension: int
    scores: Scores | None
    seconds: float
    fetched_bytes: int
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """The table: a row for each space.

    Attributes:
        base: the base model.
        labeled: the adapters and their labels.
        spaces: in the order of the paper's table.
        computed: rows that this run added to the index, by space.
        weight_bytes: size of the labeled adapters' weight files.
    """

    base: str
    labeled: Labeled
    spaces: list[SpaceScores]
    computed: dict[str, int]
    weight_bytes: int


_SCHEMA = pa.schema(
    [
        ("space", pa.string()),
        ("adapters", pa.int64()),
        ("dimension", pa.int64()),
        *((name, pa.float64()) for name in ("silhouette", "silhouette_low", "silhouette_high")),
        *((f"silhouette_halved{end}", pa.float64()) for end in ("", "_low", "_high")),
        ("retrieval", pa.float64()),
        ("rand_index", pa.float64()),
        ("seconds", pa.float64()),
        ("fetched_bytes", pa.int64()),
        ("by_label", pa.map_(pa.string(), pa.float64())),
        (
            "left_out",
            pa.list_(
                pa.struct(
                    [
                        ("adapter_type", pa.string()),
                        ("why", pa.string()),
                        ("adapters", pa.list_(pa.string())),
                    ]
                )
            ),
        ),
        ("about", pa.string()),
    ]
)


def table_of(evaluation: Evaluation) -> pa.Table:
    """The scores as a table, a row for each space.

    Columns: space, adapters, dimension; silhouette and silhouette_halved, each with its interval's
    ends as _low and _high; retrieval, rand_index, seconds, fetched_bytes; by_label, the mean
    silhouette of each label; left_out; about. Scores are null where a space has none.
    """
    return pa.Table.from_pylist([_row(one) for one in evaluation.spaces], _SCHEMA)


def _row(one: SpaceScores) -> dict[str, Any]:
    row: dict[str, Any] = {
        "space": one.space,
        "adapters": len(one.adapters),
        "dimension": one.dimension,
        "seconds": one.seconds,
        "fetched_bytes": one.fetched_bytes,
        "left_out": [asdict(group) for group in one.left_out],
        "about": one.about,
    }
    if one.scores is None:
        return row
    scores = one.scores
    for name, interval in (
        ("silhouette", scores.silhouette),
        ("silhouette_halved", scores.silhouette_halved),
    ):
        row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row | {
        "retrieval": scores.retrieval,
        "rand_index": scores.rand_index,
        "by_label": list(scores.by_label.items()),
    }


@dataclass(frozen=True)
class _Source:
    """What spaces are read from: the index, and the adapters of a base."""

    queries: Queries
    family: Family


def evaluate(
    queries: Queries,
    family: Family,
    labeled: Labeled,
    spaces: Sequence[Space],
    kept: Mapping[str, Kept],
    passing: Mapping[str, Mapping[str, str]],
) -> list[SpaceScores]:
    """Score spaces.

    Args:
        queries: the index.
        family: the adapters of the base.
        labeled: the adapters to score, all of the family.
        spaces: the spaces, in the order of the answer.
        kept: the rows of each space that the index keeps.
        passing: by space that the index keeps, adapters that could not be had this time, with the
            reason.
    """
    members = [family.members[name] for name in labeled.labels]
    source, found = _Source(queries, family), []
    for space in spaces:
        rows = kept.get(space.stored or "", Kept({}))
        why = {
            member.name: reason
            for member in members
            if (reason := rows.left_out(member.revised))
            or (reason := passing.get(space.stored or "", {}).get(member.name))
        }
        represented = {name: label for name, label in labeled.labels.items() if name not in why}
        usable, alone = split(represented)
        why |= dict.fromkeys(alone, "alone with its label in this space")
        found.append(_scored(source, space, usable, rows, _grouped(why, family)))
    return found


def _scored(
    source: _Source,
    space: Space,
    labels: Mapping[str, str],
    rows: Kept,
    left_out: list[LeftOut],
) -> SpaceScores:
    """The scores of the adapters that a space represents.

    Args:
        source: what spaces are read from.
        space: the space.
        labels: of these adapters, sorted by name.
        rows: what the index keeps of the space.
        left_out: the others.
    """
    members = [source.family.members[name] for name in labels]
    names, own = [member.revised for member in members], list(labels.values())
    matrix, dimension = np.zeros((0, 0)), 0
    if members:
        matrix, dimension = _COSINES.get(space.name, _of_products)(source, members, rows)
    effort = rows.effort(names) if space.stored else index_effort(source.queries, source.family)
    return SpaceScores(
        space=space.name,
        about=space.about,
        adapters=list(labels),
        labels=own,
        cosines=matrix,
        dimension=dimension,
        scores=score(matrix, own) if len(set(own)) > 1 else None,
        seconds=effort[0],
        fetched_bytes=effort[1],
        left_out=left_out,
    )


def _of_deltas(source: _Source, members: Sequence[Member], rows: Kept) -> tuple[Matrix, int]:
    names = [member.name for member in members]
    deltas = read_deltas(source.queries, source.family, names)
    return cosines(deltas @ deltas.T), deltas.shape[1]


def _of_vectors(source: _Source, members: Sequence[Member], rows: Kept) -> tuple[Matrix, int]:
    vectors = rows.vectors([member.revised for member in members])
    return cosines(vectors @ vectors.T), vectors.shape[1]


def _of_components(source: _Source, members: Sequence[Member], rows: Kept) -> tuple[Matrix, int]:
    gram = rows.gram([member.revised for member in members])
    return cosines(centered(gram)), len(members) - 1


def _of_products(source: _Source, members: Sequence[Member], rows: Kept) -> tuple[Matrix, int]:
    names = [member.revised for member in members]
    return cosines(rows.gram(names)), rows.dimension(names)


_COSINES: Final[Mapping[str, Callable[[_Source, Sequence[Member], Kept], tuple[Matrix, int]]]] = {
    DELTA: _of_deltas,
    OUTPUTS: _of_vectors,
    PCA: _of_components,
}
"""Space → similarities of its adapters [n, n], and its dimension; of others by inner products."""


def _grouped(why: Mapping[str, str], family: Family) -> list[LeftOut]:
    """The adapters left out, by kind and reason, the largest group first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in sorted(why.items()):
        groups.setdefault((family.members[name].adapter_type, reason), []).append(name)
    counted = Counter({key: len(names) for key, names in groups.items()})
    return [LeftOut(*key, groups[key]) for key, _ in counted.most_common()]
