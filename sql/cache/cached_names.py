"""The names of adapters in the cache as it is now, for completion."""

import logging
from contextlib import closing
from pathlib import Path

import duckdb

from hubdelta.sql.cache.database_paths import for_duckdb
from hubdelta.sql.cache.locks import CACHE_NAME, Reading

logger = logging.getLogger(__name__)


def cached_names(root: Path, prefix: str, most: int) -> list[str]:
    """The adapters whose names begin with a prefix, sorted.

    The cache is not updated, and locks are not waited for.

    Args:
        root: the index's directory.
        prefix: how they begin.
        most: the maximum number.

    Returns:
        The names; none if there is no cache, or it is being written.
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
