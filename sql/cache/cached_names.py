"""The names of adapters as the cache has them at this moment, for completion."""

import logging
from contextlib import closing
from pathlib import Path

import duckdb

from hubdelta.sql.cache.database_paths import for_duckdb
from hubdelta.sql.cache.locks import CACHE_NAME, Reading

logger = logging.getLogger(__name__)


def cached_names(root: Path, prefix: str, most: int) -> list[str]:
    """The adapters whose names begin so, sorted.

    Nothing is brought up to date, and nobody is waited for.

    Args:
        root: the index's directory.
        prefix: how they begin.
        most: how many at most.

    Returns:
        The names; none where there is no cache, or it is being written at this moment.
    """
    path = root / CACHE_NAME
    if not path.exists():
        return []
    try:
        with (
            closing(Reading(root)),
            duckdb.connect(config={"threads": 1}) as database,
        ):
            database.execute(f"ATTACH {for_duckdb(path)} AS cache (READ_ONLY)")
            rows = database.execute(
                "SELECT DISTINCT a.adapter FROM cache.present_adapters AS a"
                " WHERE starts_with(a.adapter, ?) ORDER BY a.adapter LIMIT ?",
                [prefix, most],
            ).fetchall()
    except (OSError, duckdb.Error) as error:
        logger.debug("no names from %s: %s", path, error)
        return []
    return [name for (name,) in rows]
