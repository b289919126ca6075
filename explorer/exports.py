"""A pool as one file for other programs: Parquet, NumPy's npz, or Parquet for Embedding Atlas."""

# Annotations that are objects would keep DuckDB's types past their end, which complains of that.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hubdelta.explorer.layout import Plane
from hubdelta.explorer.payload import Domains
from hubdelta.explorer.placement import Placement
from hubdelta.explorer.pool import MapPool
from hubdelta.sql.cache.families import temporary_array

_COMPRESSION = "zstd"


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes:
        pool: the adapters, with their vectors.
        placement: their positions on the map.
        domains: their domains.
    """

    pool: MapPool
    placement: Placement
    domains: Domains

    def facts(self, x: str, y: str) -> pa.Table:
        """A row for each adapter, sorted by name: what is known of it, and its coordinates.

        Args:
            x: name of the column of the first coordinate.
            y: name of the column of the second.
        """
        n = len(self.pool)
        xy: Plane = self.placement.xy
        names = [None if at is None else self.domains.names[at] for at in self.domains.of]
        table = self.pool.facts
        for place, (name, column) in enumerate(
            [
                ("base", pa.repeat(self.pool.base, n)),
                ("recipe_id", pa.repeat(self.pool.recipe_id, n)),
                (x, pa.array(xy[:, 0])),
                (y, pa.array(xy[:, 1])),
                ("domain", pa.array(names, pa.string())),
            ],
            start=1,
        ):
            table = table.add_column(place, name, column)
        return table


def write_parquet(export: Export, file: BinaryIO) -> None:
    """Write a row for each adapter, in the order in which they were embedded.

    Columns: those of `Export.facts` with x and y, and `vector`, FLOAT[d].
    """
    facts = export.facts("x", "y")
    vectors = pa.list_(pa.float32(), export.pool.hidden)
    schema = facts.schema.append(pa.field("vector", vectors, nullable=False))
    with pq.ParquetWriter(file, schema, compression=_COMPRESSION) as writer:
        for rows, deltas in export.pool.deltas():
            block = pa.FixedSizeListArray.from_arrays(pa.array(deltas.ravel()), type=vectors)
            writer.write_table(
                facts.take(pa.array(rows)).append_column(schema.field("vector"), block)
            )


def write_npz(export: Export, file: BinaryIO) -> None:
    """Write NumPy arrays, sorted by adapter name, that `numpy.load` reads without pickle.

    `vectors` float32 [n, d], `xy` float64 [n, 2], and texts [n]: `adapters`, `revisions`, `bases`,
    `recipe_ids`.
    """
    pool = export.pool
    with temporary_array(len(pool), pool.hidden) as vectors:
        for rows, deltas in pool.deltas():
            vectors[rows] = deltas
        np.savez(
            file,
            allow_pickle=False,
            vectors=vectors,
            adapters=np.array(pool.adapters, np.str_),
            revisions=np.array(pool.facts["revision"].to_pylist(), np.str_),
            bases=np.array([pool.base] * len(pool), np.str_),
            recipe_ids=np.array([pool.recipe_id] * len(pool), np.str_),
            xy=export.placement.xy,
        )


def write_embedding_atlas(export: Export, file: BinaryIO) -> None:
    """Write the columns that `embedding-atlas` reads: facts, projection_x, projection_y, neighbors.

    `neighbors` is {ids: rows of this file, from 0; distances: cosine distances}, the same number in
    each row, starting with the row itself, as when Embedding Atlas computes them.
    """
    facts = export.facts("projection_x", "projection_y")
    found, n = export.pool.neighbors, len(export.pool)
    k = min(found.index.shape[1], n - 1)
    ids = np.hstack([np.arange(n, dtype=np.int32)[:, None], found.index[:, :k]])
    distances = np.hstack([np.zeros((n, 1), np.float32), found.distance[:, :k]])
    neighbors = pa.StructArray.from_arrays(
        [_lists(ids), _lists(distances)], names=["ids", "distances"]
    )
    table = facts.append_column("neighbors", neighbors)
    pq.write_table(table, file, compression=_COMPRESSION)


def _lists(rows: np.ndarray[tuple[int, int], np.dtype[np.int32 | np.float32]]) -> pa.Array:
    """Rows of equal length as Arrow lists."""
    starts = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(rows.ravel()))


WRITERS: Final[Mapping[str, Callable[[Export, BinaryIO], None]]] = {
    "parquet": write_parquet,
    "npz": write_npz,
    "embedding-atlas": write_embedding_atlas,
}
"""Name of a format → its writer."""
