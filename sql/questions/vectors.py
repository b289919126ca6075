"""All vectors of a base as one matrix."""

import numpy as np
import numpy.typing as npt

from hubdelta.sql.connection import Queries

_LATEST = """
    SELECT c.adapter, c.delta
    FROM comparable AS c
    WHERE c.base = $base AND c.current AND c.recipe_id = (
        SELECT max_by(l.recipe_id, (l.embedded_at, l.recipe_id))
        FROM comparable AS l
        WHERE l.base = $base AND l.current
    )
    ORDER BY c.adapter
"""


def vectors(queries: Queries, base: str) -> tuple[list[str], npt.NDArray[np.float32]]:
    """The vectors of a base in the latest recipe.

    Args:
        queries: the index.
        base: the base.

    Returns:
        The adapters, sorted, and [adapters, hidden]; [0, 0] if there are none.
    """
    found = queries.run(_LATEST, {"base": base})
    names: list[str] = found["adapter"].to_pylist()
    chunks = [chunk.flatten().to_numpy() for chunk in found["delta"].chunks]
    hidden = sum(len(chunk) for chunk in chunks) // max(len(names), 1)
    matrix = np.empty((len(names), hidden), np.float32)
    start = 0
    for chunk in chunks:
        rows = chunk.reshape(-1, hidden) if hidden else matrix[:0]
        matrix[start : start + len(rows)] = rows
        start += len(rows)
    return names, matrix
