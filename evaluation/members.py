"""The adapters that are evaluated: those of a base with comparable vectors in the latest recipe."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubdelta.schemas.errors import NoVectorError, SeveralBasesError, UsageError
from hubdelta.schemas.keys import AdapterKey
from hubdelta.sql.connection import Queries
from hubdelta.sql.questions.status import bases, check_base

_LATEST = """
    SELECT max_by(c.recipe_id, (c.embedded_at, c.recipe_id)) AS recipe_id
    FROM comparable AS c WHERE c.base = $base AND c.current
"""

_FACTS = """
    SELECT c.adapter, c.repo_id, c.subfolder, c.revision, v.adapter_type, v.weight_bytes,
        v.base_revision, v.probe_set
    FROM comparable AS c
    JOIN hubdelta.embedded AS v
        ON (v.base, v.repo_id, v.subfolder, v.revision, v.recipe_id)
        = (c.base, c.repo_id, c.subfolder, c.revision, c.recipe_id)
    WHERE c.base = $base AND c.current AND c.recipe_id = $recipe_id
    ORDER BY c.adapter
"""

_DELTAS = """
    SELECT c.adapter, c.delta FROM comparable AS c
    WHERE c.base = $base AND c.current AND c.recipe_id = $recipe_id
        AND c.adapter IN (SELECT unnest($names))
"""

_PROBES = """
    SELECT b.model_type, b.prompts, b.layer FROM bases AS b
    WHERE b.base = $base AND b.recipe_id = $recipe_id ORDER BY b.embedded_at DESC LIMIT 1
"""

_EFFORT = """
    SELECT coalesce(sum(r.seconds), 0) AS seconds,
        coalesce(sum(r.fetched_bytes), 0)::BIGINT AS fetched_bytes
    FROM runs AS r WHERE r.base = $base AND r.kind = 'index'
"""


@dataclass(frozen=True)
class Member:
    """An adapter with a comparable vector.

    Attributes:
        name: org/name[/subfolder], or a local folder's path.
        key: the same at the commit of its vector.
        adapter_type: PEFT type, or FULL.
        weight_bytes: size of its weight files.
    """

    name: str
    key: AdapterKey
    adapter_type: str
    weight_bytes: int

    @property
    def revised(self) -> str:
        """Its name at that commit, as rows of other spaces name it."""
        return f"{self.name}@{self.key.revision}"


@dataclass(frozen=True)
class Family:
    """The adapters of a base whose vectors are comparable.

    Attributes:
        base: the base model.
        base_revision: the commit that the vectors belong to.
        recipe_id: the recipe of the vectors.
        probe_set: name of its probe set.
        model_type: the base's architecture, as its config.json names it; "" if unknown.
        prompts: the probes; empty if unknown.
        layer: where the hidden state is read, as `BaseRow.layer`; "" if unknown.
        members: the adapters by name, sorted.
    """

    base: str
    base_revision: str
    recipe_id: str
    probe_set: str
    model_type: str
    prompts: list[str]
    layer: str
    members: dict[str, Member]


def the_base(queries: Queries, base: str | None) -> str:
    """The base that is meant: the only one, unless one is named.

    Raises:
        QueryError: the index has no such base.
        SeveralBasesError: none is named, and there are several.
        UsageError: the index is empty.
    """
    if base is None:
        known = bases(queries)
        if len(known) != 1:
            raise SeveralBasesError(known) if known else UsageError("the index is empty")
        return known[0]
    check_base(queries, base)
    return base


def read_family(queries: Queries, base: str) -> Family:
    """The adapters of a base.

    Raises:
        NoVectorError: none has a comparable vector.
    """
    (latest,) = queries.run(_LATEST, {"base": base}).to_pylist()
    recipe_id = latest["recipe_id"]
    if recipe_id is None:
        raise NoVectorError(f"no adapter of {base} has a vector", base=base)
    rows = queries.run(_FACTS, {"base": base, "recipe_id": recipe_id}).to_pylist()
    members = {
        row["adapter"]: Member(
            row["adapter"],
            AdapterKey(row["repo_id"], row["subfolder"], row["revision"]),
            row["adapter_type"],
            row["weight_bytes"],
        )
        for row in rows
    }
    asked = queries.run(_PROBES, {"base": base, "recipe_id": recipe_id}).to_pylist()
    # The file of the base may be damaged.
    unknown: dict[str, Any] = {"model_type": "", "prompts": [], "layer": ""}
    (probes,) = asked or [unknown]
    return Family(
        base,
        rows[0]["base_revision"],
        recipe_id,
        rows[0]["probe_set"],
        probes["model_type"],
        probes["prompts"],
        probes["layer"],
        members,
    )


def read_deltas(queries: Queries, family: Family, names: Collection[str]) -> NDArray[np.float64]:
    """The Delta Activations of some adapters, in the order of `names` [n, hidden]."""
    asked = {"base": family.base, "recipe_id": family.recipe_id, "names": list(names)}
    found = dict(_deltas(queries, asked))
    return np.stack([found[name] for name in names])


def index_effort(queries: Queries, family: Family) -> tuple[float, int]:
    """Wall time and bytes fetched of all index runs of a base [seconds, bytes]."""
    (row,) = queries.run(_EFFORT, {"base": family.base}).to_pylist()
    return float(row["seconds"]), int(row["fetched_bytes"])


def _deltas(
    queries: Queries, asked: Mapping[str, object]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    found = queries.run(_DELTAS, asked)
    for batch in found.to_batches():
        hidden = len(batch["delta"].flatten()) // max(len(batch), 1)
        deltas = batch["delta"].flatten().to_numpy().reshape(-1, hidden).astype(np.float64)
        yield from zip(batch["adapter"].to_pylist(), deltas, strict=True)
