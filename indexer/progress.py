"""How far an index run has come."""

from collections import Counter
from dataclasses import dataclass, field

from hubdelta.schemas.errors import Reason


@dataclass
class Progress:
    """What a run has done so far; it grows as the run goes on.

    Attributes:
        embedded: adapters that gave a vector.
        failed: adapters that gave none, by reason.
    """

    embedded: int = 0
    failed: Counter[Reason] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Adapters that are dealt with."""
        return self.embedded + self.failed.total()
