"""What every run brings up to date at its end: the cache for queries, and the density clusters."""

import logging
from datetime import datetime

import duckdb

from hubdelta.schemas.index import Index

logger = logging.getLogger(__name__)


def refresh_cache(index: Index) -> None:
    """Bring the cache up to date; that it cannot be is only a warning, since queries try again."""
    from hubdelta.sql import cache

    try:
        cache.refresh(index)
    except (OSError, duckdb.Error) as error:
        logger.warning("%s is not up to date: %s", cache.path_of(index), error)


def refresh_clusters(index: Index, base: str, *, run_id: str, now: datetime) -> None:
    """Cluster the adapters of a base anew, and write what changed. The caller holds the index.

    Raises:
        IndexWriteError: no space, no permission.
    """
    from hubdelta.domains.clusters import Pool, update_clusters
    from hubdelta.sql import cache, families

    with duckdb.connect() as database:
        if not cache.attach(database, index, linked=True):
            return
        with families.opened(database, base) as found:
            pools = [
                Pool(one.recipe_id, one.adapters, families.read_linkage(database, one)[0], units)
                for one, units in found
            ]
            update_clusters(index, base, pools, run_id=run_id, now=now)
