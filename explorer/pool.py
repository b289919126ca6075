"""The adapters on a map: those of one base and recipe whose newest vectors are comparable."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hubdelta.schemas.errors import NoVectorError, QueryError, SeveralBasesError
from hubdelta.schemas.words import counted
from hubdelta.sql.cache.families import temporary_array, unit
from hubdelta.sql.connection import Queries
from hubdelta.sql.questions.status import check_base
from hubdelta.vectors.nearest import Neighbors, nearest

logger = logging.getLogger(__name__)

_ROWS = 2048  # vectors read at once

_LARGE_POOL, _NEIGHBORS_IF_LARGE, _NEIGHBORS = 5000, 20, 50
"""From this pool size on, each adapter keeps fewer neighbors, since the page holds them all."""

CARD = 400
"""How many characters of a model card are kept."""

TOKENS = 5
"""How many of the tokens that an adapter promotes are kept."""

_FACTS = f"""
SELECT
    c.adapter, c.repo_id, c.subfolder, c.revision, l.label,
    a.downloads, a.likes, a.license, v.rank, v.alpha, v.signal, v.norm, v.adapter_type,
    v.target_modules, v.weight_bytes, a.author,
    coalesce(a.datasets, []) AS datasets, coalesce(a.languages, []) AS languages,
    coalesce(a.pipeline_tag, a.task_type) AS task, a.created_at, a.last_modified,
    coalesce(a.status, 'embedded') AS status, coalesce(a.promotes[:{TOKENS}], []) AS promotes,
    left(v.card, {CARD}) AS card
FROM comparable AS c
JOIN hubdelta.embedded AS v
    ON (v.base, v.repo_id, v.subfolder, v.revision, v.recipe_id)
    = (c.base, c.repo_id, c.subfolder, c.revision, c.recipe_id)
LEFT JOIN adapters AS a
    ON (a.base, a.repo_id, a.subfolder) = (c.base, c.repo_id, c.subfolder)
LEFT JOIN labels AS l ON l.adapter = c.adapter
WHERE c.newest AND c.base = $base AND c.recipe_id = $recipe_id
ORDER BY c.adapter
"""  # noqa: S608 (a number)


@dataclass
class MapPool:
    """The adapters of one map; made by `opened_pool`.

    Vectors and neighbors are read and computed on first use.

    Attributes:
        queries: the index.
        base: the base model.
        recipe_id: the recipe of the vectors.
        facts: what is known of each adapter, by name [n]: adapter, repo_id, subfolder, revision,
            label, downloads, likes, license, rank, alpha, signal, norm, adapter_type,
            target_modules, weight_bytes, author, datasets, languages, task, created_at,
            last_modified, status, promotes, card.
        hidden: d, the length of the vectors.
    """

    queries: Queries
    base: str
    recipe_id: str
    facts: pa.Table
    hidden: int
    _held: ExitStack = field(repr=False)

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def adapters(self) -> list[str]:
        """The names, `org/name[/subfolder]`, sorted [n]."""
        names: list[str] = self.facts["adapter"].to_pylist()
        return names

    @cached_property
    def units(self) -> npt.NDArray[np.float32]:
        """The vectors in the order of `facts`, each of length one [n, hidden].

        Raises:
            QueryError: they cannot be read.
        """
        units = self._held.enter_context(temporary_array(len(self), self.hidden))
        for rows, deltas in self.deltas():
            units[rows] = unit(deltas)
        return units

    @cached_property
    def neighbors(self) -> Neighbors:
        """The nearest other adapters of each: 50, or 20 in a pool of 5,000 or more.

        Raises:
            QueryError: the vectors cannot be read.
        """
        return nearest(self.units, _NEIGHBORS if len(self) < _LARGE_POOL else _NEIGHBORS_IF_LARGE)

    def deltas(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """The vectors as stored, in blocks.

        Yields:
            Rows of `facts` [rows], and their vectors [rows, hidden].

        Raises:
            QueryError: they cannot be read.
        """
        row_of = {name: row for row, name in enumerate(self.adapters)}
        try:
            found = self.queries.database.sql(
                "SELECT c.adapter, c.delta FROM comparable AS c"
                " WHERE c.newest AND c.base = $base AND c.recipe_id = $recipe_id",
                params={"base": self.base, "recipe_id": self.recipe_id},
            )
            for batch in found.to_arrow_reader(_ROWS):
                rows = np.array([row_of[name] for name in batch["adapter"].to_pylist()], np.int64)
                yield rows, batch["delta"].flatten().to_numpy().reshape(-1, self.hidden)
        except duckdb.Error as error:
            raise QueryError(f"the vectors cannot be read: {error}") from error


@contextmanager
def opened_pool(queries: Queries, base: str | None = None) -> Iterator[MapPool]:
    """The adapters of a base that a map can show.

    Vectors of different recipes are not comparable: the map shows those of the recipe with the most
    adapters, and a warning says how many others there are.

    Args:
        queries: the index.
        base: the base; None if there is only one.

    Raises:
        QueryError: the index has no such base, or no comparable vector.
        SeveralBasesError: no base is given, and there are several.
    """
    queries.link()  # domains need it; updating it later might switch to another state
    if base is not None:
        check_base(queries, base)
    families = queries.run(
        "SELECT c.base, c.recipe_id, count(*) AS adapters, max(c.embedded_at) AS embedded_at,"
        " any_value(len(c.delta)) AS hidden"
        " FROM comparable AS c WHERE c.newest AND (?::VARCHAR IS NULL OR c.base = ?)"
        " GROUP BY c.base, c.recipe_id ORDER BY adapters DESC, embedded_at DESC, c.recipe_id",
        [base, base],
    ).to_pylist()
    bases = sorted({family["base"] for family in families})
    if not bases:
        of = f"of {base} " if base else ""
        raise NoVectorError(
            f"no vector {of}in the index can be compared: embed adapters first",
            base=base or "ORG/NAME",
        )
    if len(bases) > 1:
        raise SeveralBasesError(bases)
    chosen, *others = families
    left_out = sum(family["adapters"] for family in others)
    if left_out:
        logger.warning(
            "%s of another recipe, which cannot be compared; left out",
            counted(left_out, "adapter has vectors", "adapters have vectors"),
        )
    key = {"base": chosen["base"], "recipe_id": chosen["recipe_id"]}
    with ExitStack() as held:
        yield MapPool(
            queries=queries,
            facts=queries.run(_FACTS, key),
            hidden=chosen["hidden"],
            _held=held,
            **key,
        )
