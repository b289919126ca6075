"""Writing rows to the index: one file per kind for many adapters, or for a minute's."""

from time import monotonic

import numpy as np

from hubdelta.indexer.engines.engine import Baseline
from hubdelta.indexer.pipeline.rows import RowMaker
from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import FailureRow, VectorRow

_MOST_LOST = 60.0  # seconds of work lost, at most, when a run dies


class Writer:
    """Writes a run's results; for one thread.

    Args:
        row_maker: what the rows have in common.
        index: where they go.
        rows: a file is written for this many, or when the last one is a minute old.
        stages: where seconds are counted.
    """

    def __init__(self, row_maker: RowMaker, index: Index, *, rows: int, stages: Stages) -> None:
        self._row_maker, self._index, self._rows, self._stages = row_maker, index, rows, stages
        self._vectors: list[VectorRow] = []
        self._failures: list[FailureRow] = []
        self._baselines: set[tuple[str, str]] = set()
        self._written = monotonic()

    def add_failure(self, row: FailureRow) -> None:
        """Add a failure.

        Raises:
            IndexWriteError: the index cannot be written.
        """
        self._failures.append(row)
        self.write_if_due()

    def add_vector(self, row: VectorRow, baseline: Baseline) -> None:
        """Add a vector, and the base's own answer for the first of its engine and precision.

        Raises:
            HubdeltaError: the base answers with NaN or infinity.
            IndexWriteError: the index cannot be written.
        """
        arithmetic = (baseline.engine, baseline.precision)
        if arithmetic not in self._baselines:
            if not np.isfinite(baseline.activations).all():
                raise HubdeltaError(f"the base {row.base} itself answers with NaN or infinity")
            with self._stages.at("write"):
                self._index.write([self._row_maker.base_row(baseline)], base=row.base)
            self._baselines.add(arithmetic)
        self._vectors.append(row)
        self.write_if_due()

    def write(self) -> None:
        """Write the pending rows.

        Raises:
            IndexWriteError: the index cannot be written.
        """
        base = self._row_maker.recipe.base
        with self._stages.at("write"):
            # Removed first, so that a failed write is not retried at the end of the run.
            vectors, self._vectors = self._vectors, []
            failures, self._failures = self._failures, []
            self._written = monotonic()
            self._index.write(vectors, base=base)
            self._index.write(failures, base=base)

    def write_if_due(self) -> None:
        """Write if there are enough rows, or if the last file is a minute old.

        Raises:
            IndexWriteError: the index cannot be written.
        """
        full = len(self._vectors) + len(self._failures) >= self._rows
        if full or monotonic() - self._written >= _MOST_LOST:
            self.write()
