"""A cache that is attached to a connection as `cache`, and what it says of itself."""

from dataclasses import dataclass

import duckdb

from hubdelta.sql.cache.flat_deltas import Deltas
from hubdelta.sql.cache.locks import Reading


@dataclass(frozen=True)
class Attached:
    """To be closed when it is no longer read.

    Attributes:
        deltas: its deltas, mapped into memory.
    """

    _database: duckdb.DuckDBPyConnection
    deltas: Deltas
    _reading: Reading

    def damages(self) -> list[str]:
        """Why each Parquet file that it is without could not be read."""
        rows = self._database.execute(
            "SELECT f.damage FROM cache.files AS f WHERE f.damage IS NOT NULL ORDER BY f.name"
        ).fetchall()
        return [damage for (damage,) in rows]

    def is_linked(self) -> bool:
        """Whether its linkage is up to date."""
        found = self._database.execute("SELECT f.linked FROM cache.facts AS f").fetchall()
        return found == [(True,)]

    def close(self) -> None:
        """It is no longer read."""
        self._reading.close()
