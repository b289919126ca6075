"""What the index keeps of a space: inner products or vectors, and which of them are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hubdelta.schemas.arrow import rows_of
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import SpaceRow

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Kept:
    """The rows of some adapters in one space and definition.

    Attributes:
        rows: adapter at a commit → its rows.
    """

    rows: dict[str, list[SpaceRow]]

    def left_out(self, adapter: str) -> str | None:
        """Why the space cannot represent an adapter; None if it does, or nothing is known."""
        return next((row.left_out for row in self.rows.get(adapter, []) if row.left_out), None)

    def dimension(self, adapters: Sequence[str]) -> int:
        """Coordinates in the space: the most that one of some adapters has."""
        rows = (row for adapter in adapters for row in self.rows.get(adapter, []))
        return max((row.dimension or 0 for row in rows), default=0)

    def effort(self, adapters: Sequence[str]) -> tuple[float, int]:
        """What the rows of some adapters took [seconds, bytes fetched]."""
        rows = [row for adapter in adapters for row in self.rows.get(adapter, [])]
        return sum(row.seconds for row in rows), sum(row.fetched_bytes for row in rows)

    def gram(self, adapters: Sequence[str]) -> Matrix:
        """Inner products of adapters [n, n]; NaN for pairs that are not known."""
        places = {adapter: place for place, adapter in enumerate(adapters)}
        gram = np.full((len(adapters), len(adapters)), np.nan)
        for adapter, place in places.items():
            for row in self.rows.get(adapter, []):
                for other, product in zip(row.others or (), row.inner_products or (), strict=True):
                    if (at := places.get(other)) is not None:
                        gram[place, at] = gram[at, place] = product
        return gram

    def vectors(self, adapters: Sequence[str]) -> Matrix:
        """Vectors of adapters that all have one [n, dimension]."""
        found = (
            next(row.vector for row in self.rows[adapter] if row.vector is not None)
            for adapter in adapters
        )
        return np.array([np.asarray(vector, np.float64) for vector in found])


def read_kept(
    index: Index, base: str, base_revision: str, definitions: Mapping[str, str]
) -> dict[str, Kept]:
    """The rows of spaces, each in one definition, for a base at a commit.

    Args:
        index: the index.
        base: the base.
        base_revision: its commit.
        definitions: space → definition.

    Raises:
        UnreadableError: there may be rows that cannot be read at the moment.
    """
    found: dict[str, dict[str, list[SpaceRow]]] = {space: {} for space in definitions}
    stored = index.read(SpaceRow, base=base)
    wanted = pc.and_(
        pc.equal(stored["base_revision"], base_revision),
        pc.is_in(stored["definition"], pa.array(definitions.values(), pa.string())),
    )
    for row in rows_of(stored.filter(wanted), SpaceRow):
        if definitions.get(row.space) == row.definition:
            found[row.space].setdefault(f"{row.adapter}@{row.revision}", []).append(row)
    return {space: Kept(rows) for space, rows in found.items()}


def lacking(gram: Matrix) -> list[int]:
    """Adapters whose products with all others fill the gaps of a matrix, as few as possible.

    Those with most gaps come first, so that of a pool with one new adapter it alone is computed.

    Args:
        gram: inner products, NaN where unknown [n, n].

    Returns:
        Rows of `gram`, ascending.
    """
    gaps = np.isnan(gram)
    chosen = []
    while gaps.any():
        place = int(gaps.sum(axis=1).argmax())
        chosen.append(place)
        gaps[place, :] = gaps[:, place] = False
    return sorted(chosen)
