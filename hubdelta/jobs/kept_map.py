"""The map of a base, stored in its index, for the commands that show or export it."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from hubdelta.explorer.payload import Domains, domains_of
from hubdelta.explorer.placement import Placement, place
from hubdelta.explorer.pool import MapPool, opened_pool
from hubdelta.jobs.derived import refresh_cache
from hubdelta.schemas.errors import IndexBusyError, IndexWriteError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import MapRow
from hubdelta.sql.connection import connect
from hubdelta.sql.script import write_script

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptMap:
    """A map.

    Attributes:
        pool: the adapters on it.
        placement: their positions.
        domains: their domains.
    """

    pool: MapPool
    placement: Placement
    domains: Domains


@contextmanager
def opened_map(index: Index, base: str | None, distance: float | None = None) -> Iterator[KeptMap]:
    """The map of a base, updated. New positions are stored in the index.

    If the index cannot be written, that is only a warning: the map may differ next time.

    Args:
        index: the index.
        base: the base; None if there is only one.
        distance: the cosine distance at which domains are linked; None for the index's own.

    Raises:
        QueryError: the index has no such base, or no comparable vector.
        UsageError: no base is given, and there are several.
        MissingExtraError: a large pool has to be laid out, and UMAP is not installed.
        NewerIndexError: a newer hubdelta wrote the index.
    """
    with ExitStack() as stack, connect(index) as queries, opened_pool(queries, base) as pool:
        placement = place(pool, datetime.now(UTC))
        if _keep(index, pool.base, placement.news):
            stack.callback(refresh_cache, index)  # at the end, when it is no longer open here
        yield KeptMap(pool, placement, domains_of(pool, distance))


def _keep(index: Index, base: str, news: list[MapRow]) -> bool:
    """Write new rows of a map; whether any were written."""
    if not news:
        return False
    try:
        with index.writing():
            Index.create(index.root)  # an index of an earlier version lacks this table
            write_script(index)
            index.write(news, base=base)
    except (IndexBusyError, IndexWriteError) as error:
        logger.warning(
            "could not save the map; it may be laid out differently next time: %s", error
        )
        return False
    return True
