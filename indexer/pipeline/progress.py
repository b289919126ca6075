"""How far an index run has come."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.schemas.errors import Reason


@dataclass
class RunProgress:
    """What a run has done so far; updated as it goes on.

    Attributes:
        embedded: adapters that gave a vector.
        failed: adapters that gave none, by reason.
        needed_bytes: fetched bytes that the vectors depend on.
        received: counts the bytes that arrived from the Hub.
        stages: the time of each stage.
    """

    embedded: int = 0
    failed: Counter[Reason] = field(default_factory=Counter)
    needed_bytes: int = 0
    received: Callable[[], int] = int  # none: int() is 0
    stages: Stages = field(default_factory=Stages)

    @property
    def done(self) -> int:
        """Finished adapters."""
        return self.embedded + self.failed.total()

    @property
    def adapters_per_second(self) -> float:
        """Adapters that gave a vector, per second of embedding."""
        return self.embedded / max(self.stages.seconds, 1e-9)
