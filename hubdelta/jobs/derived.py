"""What every run updates at its end: the cache for queries, and the density clusters."""

import logging
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb

from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import ClusterRow

if TYPE_CHECKING:
    from hubdelta.sql.cache.flat_deltas import Deltas

logger = logging.getLogger(__name__)


def refresh_cache(index: Index) -> None:
    """Update the cache; a failure is only a warning, since queries try again."""
    from hubdelta.sql.cache import cache
    from hubdelta.sql.cache.contents import UNUSABLE, path_of
    from hubdelta.sql.stoppable import interruptible

    try:
        with interruptible():
            cache.refresh(index)
    except (OSError, *UNUSABLE) as error:
        logger.warning("%s is not up to date: %s", path_of(index), error)


def refresh_clusters(index: Index, base: str, *, run_id: str, now: datetime) -> None:
    """Cluster the adapters of a base again, and write what changed. The caller holds the index.

    Failures that the next run can make up for are only warnings.

    Raises:
        IndexWriteError: no space, no permission.
        KeyboardInterrupt: Ctrl-C stopped it.
    """
    from hubdelta.sql.cache import cache
    from hubdelta.sql.cache.contents import UNUSABLE
    from hubdelta.sql.stoppable import interruptible

    if index.has_damage(ClusterRow, base=base):
        logger.warning(
            "clusters of %s are left unchanged: their numbers are in damaged files", base
        )
        return
    with duckdb.connect() as database:
        try:
            with interruptible(), ExitStack() as stack:
                attached = cache.attach(database, index, linked=True)
                if attached is not None:
                    stack.callback(attached.close)
                    _cluster(database, attached.contents.deltas, index, base, run_id, now)
        except (OSError, *UNUSABLE) as error:
            logger.warning("clusters of %s are not up to date: %s", base, error)


def _cluster(
    database: duckdb.DuckDBPyConnection,
    deltas: "Deltas",
    index: Index,
    base: str,
    run_id: str,
    now: datetime,
) -> None:
    from hubdelta.clusters.table import ClusterPool, update_clusters
    from hubdelta.sql.cache.families import opened, read_linkage

    with opened(database, deltas, base) as found:
        pools = [
            ClusterPool(one.recipe_id, one.adapters, read_linkage(database, one)[0], units)
            for one, units in found
        ]
        update_clusters(index, base, pools, run_id=run_id, now=now)
