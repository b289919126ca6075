"""A cache attached to a connection as `cache`, and its state."""

from dataclasses import dataclass

import duckdb

from hubdelta.sql.cache.contents import Contents
from hubdelta.sql.cache.locks import Reading


@dataclass(frozen=True)
class Attached:
    """An attached cache; close it when it is no longer read.

    Attributes:
        contents: what it held when it was attached.
    """

    _database: duckdb.DuckDBPyConnection
    contents: Contents
    _reading: Reading

    def damages(self) -> list[str]:
        """Why each Parquet file missing from it could not be read."""
        rows = self._database.execute(
            "SELECT f.damage FROM cache.files AS f WHERE f.damage IS NOT NULL ORDER BY f.name"
        ).fetchall()
        return [damage for (damage,) in rows]

    def close(self) -> None:
        """End reading."""
        self._reading.close()
