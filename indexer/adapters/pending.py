"""An adapter waiting to be embedded."""

from dataclasses import dataclass

from hubdelta.schemas.keys import AdapterKey
from hubdelta.schemas.rows import CatalogRow, FailureRow


@dataclass(frozen=True)
class Pending:
    """An adapter waiting to be embedded.

    Attributes:
        row: its catalog row.
        attempt: which attempt this will be, from 1.
    """

    row: CatalogRow
    attempt: int

    @property
    def key(self) -> AdapterKey:
        """Which adapter, at which commit."""
        return key_of(self.row)


def key_of(row: CatalogRow | FailureRow) -> AdapterKey:
    """The key of a row."""
    return AdapterKey(row.repo_id, row.subfolder, row.revision)
