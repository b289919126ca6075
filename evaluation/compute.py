"""Computing what the index lacks of some spaces: fetched once, written space by space."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hubdelta.evaluation.answers import Answerer, SentenceModel
from hubdelta.evaluation.factors import FactorStore, read_factors
from hubdelta.evaluation.gaps import Gap
from hubdelta.evaluation.gram import update_products, weights_products
from hubdelta.evaluation.members import Family, Member
from hubdelta.evaluation.obtain import MAY_HEAL, AdapterSource, Obtained
from hubdelta.evaluation.promoted import Vectors
from hubdelta.evaluation.salient import (
    model_weights,
    shared_entries,
    threshold,
)
from hubdelta.evaluation.spaces import SALIENT, UPDATE, WEIGHTS
from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import attempt
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import device_of
from hubdelta.indexer.probes import ProbeSet
from hubdelta.schemas.errors import AdapterError, IndexWriteError
from hubdelta.schemas.files import why_unwritten
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import SpaceRow

logger = logging.getLogger(__name__)

_WRITTEN_TOGETHER: Final = 8
"""Answers of adapters that a killed run loses at most."""

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass
class Workshop:
    """Computes the rows that a run adds. The caller holds the index for writing.

    Attributes:
        index: where the rows go.
        family: the adapters' base.
        source: where the adapters come from.
        folder: for files of its own, removed at the end.
        run_id: goes into each row.
        on_progress: is told how far it has come.
    """

    index: Index
    family: Family
    source: AdapterSource
    folder: Path
    run_id: str
    on_progress: OnProgress
    passing: dict[str, dict[str, str]] = field(default_factory=dict)
    """By space, adapters that could not be had this time, with the reason; nothing is written."""

    def factor_spaces(self, gaps: Sequence[Gap]) -> None:
        """Fill the gaps of spaces that are computed from factors, fetching each adapter once.

        Raises:
            HubError, IndexWriteError: nothing can be fetched or written now.
        """
        needed = {member.name: member for gap in gaps for member in gap.needed}
        started = time.monotonic()
        with self._store() as store:
            fetched: dict[str, int] = {}
            refused: dict[str, AdapterError] = {}
            for obtained in self._obtained(list(needed.values()), "reading factors"):
                name = obtained.member.name
                fetched[name] = obtained.fetched_bytes
                found = self._factors(obtained, store)
                if isinstance(found, AdapterError):
                    refused[name] = found
            reading = (time.monotonic() - started) / max(len(needed), 1)
            for done, gap in enumerate(gaps):
                self.on_progress(f"comparing {gap.space}", done, len(gaps))
                rows = self._rows_of_factors(gap, store, refused, fetched, reading)
                self.index.write(rows, base=self.family.base)

    def answers(self, gap: Gap, base_folder: Path, probes: ProbeSet, sentence_folder: Path) -> None:
        """Fill the gap of the space of answers.

        Args:
            gap: the adapters to do.
            base_folder: a transformers folder of the base.
            probes: what they answer.
            sentence_folder: a transformers folder of a sentence model.

        Raises:
            HubdeltaError: a model cannot be loaded, or the base no longer answers as before.
        """
        started = time.monotonic()
        sentences = SentenceModel.load(sentence_folder)
        base = BaseModel.load(base_folder, probes, device=device_of("auto"))
        engine, answerer = ReferenceEngine(base), Answerer.of(base)

        def answered(obtained: Obtained) -> NDArray[np.float32] | AdapterError:
            adapter = obtained.adapter
            if isinstance(adapter, AdapterError):
                return adapter
            texts = attempt(
                obtained.member.key, lambda: engine.with_adapter(adapter, answerer.answers)
            )
            return texts if isinstance(texts, AdapterError) else sentences.vector(texts)

        rows: list[SpaceRow] = []
        loading = (time.monotonic() - started) / len(gap.new)
        started = time.monotonic()
        for obtained in self._obtained(gap.new, "answering"):
            row: dict[str, Any] = {"fetched_bytes": obtained.fetched_bytes}
            if isinstance(obtained.adapter, FullFinetune):
                row["left_out"] = "a whole model, not an adapter"
            elif obtained.output_layer:
                row["left_out"] = "changes the output layer, which is not fetched"
            else:
                found = answered(obtained)
                if isinstance(found, AdapterError):
                    if self._passes(gap, obtained.member, found):
                        continue
                    row["left_out"] = f"{found.reason}: {found}"
                else:
                    row |= {"vector": found, "dimension": len(found)}
            row["seconds"] = loading + time.monotonic() - started
            started = time.monotonic()
            rows.append(self._row(gap, obtained.member, **row))
            if len(rows) >= _WRITTEN_TOGETHER:
                self.index.write(rows, base=self.family.base)
                rows = []
        self.index.write(rows, base=self.family.base)

    def promoted(self, gap: Gap, base_folder: Path, vectors: Vectors) -> None:
        """Fill the gap of the space of promoted tokens; nothing is fetched but the base.

        Args:
            gap: the adapters to do.
            base_folder: a transformers folder of the base.
            vectors: of the adapters.

        Raises:
            HubdeltaError: the base's output layer cannot be read.
        """
        started = time.monotonic()
        self.on_progress("comparing promoted tokens", 0, len(gap.new))
        products, dimension = vectors.products(base_folder, gap.new, gap.others)
        each = (time.monotonic() - started) / max(len(gap.new), 1)
        others = [other.revised for other in gap.others]
        self.index.write(
            [
                self._row(
                    gap,
                    member,
                    dimension=dimension,
                    others=others,
                    inner_products=own.tolist(),
                    seconds=each,
                    fetched_bytes=0,
                )
                for member, own in zip(gap.new, products, strict=True)
            ],
            base=self.family.base,
        )

    def _obtained(self, members: Sequence[Member], doing: str) -> Iterator[Obtained]:
        for done, obtained in enumerate(self.source.adapters(members)):
            self.on_progress(doing, done, len(members))
            yield obtained

    def _factors(self, obtained: Obtained, store: FactorStore) -> AdapterError | None:
        """Write an adapter's factors to the store; or why that cannot be done."""
        if isinstance(obtained.adapter, AdapterError):
            return obtained.adapter
        adapter, name = obtained.adapter, obtained.member.name
        factors = attempt(obtained.member.key, lambda: read_factors(adapter, self.source.base))
        if isinstance(factors, AdapterError):
            return factors
        try:
            store.add(name, factors)
        except OSError as error:
            raise IndexWriteError(why_unwritten(store.folder, error)) from error
        return None

    def _rows_of_factors(
        self,
        gap: Gap,
        store: FactorStore,
        refused: Mapping[str, AdapterError],
        fetched: Mapping[str, int],
        reading: float,
    ) -> list[SpaceRow]:
        """The new rows of a space.

        Args:
            gap: the space, and its adapters.
            store: the factors of the adapters that have been read.
            refused: why others have not.
            fetched: bytes received for each.
            reading: seconds that each took to be fetched and read.
        """
        started = time.monotonic()
        rows, new, others = [], [], []
        for member in gap.others:
            error = refused.get(member.name)
            if error is not None and self._passes(gap, member, error):
                continue
            why = f"{error.reason}: {error}" if error else _why_not(gap.space, store, member.name)
            if why is None:
                others.append(member)
                new += [member] if member in gap.new else []
            else:
                effort = {"seconds": reading, "fetched_bytes": fetched[member.name]}
                rows.append(self._row(gap, member, left_out=why, **effort))
        products = self._products(gap.space, store, new, others)
        each = reading + (time.monotonic() - started) / max(len(new), 1)
        for member, own in zip(new, products, strict=True):
            rows.append(
                self._row(
                    gap,
                    member,
                    dimension=self._dimension(gap.space, store, member.name),
                    others=[other.revised for other in others],
                    inner_products=own.tolist(),
                    seconds=each,
                    fetched_bytes=fetched[member.name],
                )
            )
        return rows

    def _products(
        self, space: str, store: FactorStore, new: Sequence[Member], others: Sequence[Member]
    ) -> NDArray[np.float64]:
        rows, columns = [member.name for member in new], [member.name for member in others]
        if space == WEIGHTS:
            return weights_products(store, rows, columns)
        if space == UPDATE:
            return update_products(store, rows, columns)
        wanted = {*rows, *columns} if rows else set()
        thresholds = {name: threshold(store, name, self._model_weights) for name in wanted}
        return shared_entries(store, thresholds, rows, columns)

    def _dimension(self, space: str, store: FactorStore, name: str) -> int:
        if space == SALIENT:
            return self._model_weights
        layers = store.layers(name).values()
        if space == WEIGHTS:
            return sum(layer.numbers for layer in layers)
        return sum(layer.out_features * layer.in_features for layer in layers)

    @property
    def _model_weights(self) -> int:
        return model_weights(self.source.base)

    def _passes(self, gap: Gap, member: Member, error: AdapterError) -> bool:
        """Whether a failure may be gone the next time; it is remembered for this run alone."""
        if error.reason in MAY_HEAL:
            self.passing.setdefault(gap.space, {})[member.name] = f"{error.reason}: {error}"
        return error.reason in MAY_HEAL

    def _row(self, gap: Gap, member: Member, **own: Any) -> SpaceRow:
        lacking: dict[str, Any] = dict.fromkeys(
            ("left_out", "dimension", "vector", "others", "inner_products")
        )
        return SpaceRow(
            base=self.family.base,
            base_revision=self.family.base_revision,
            space=gap.space,
            definition=gap.definition,
            adapter=member.name,
            revision=member.key.revision,
            adapter_type=member.adapter_type,
            computed_at=datetime.now(UTC),
            run_id=self.run_id,
            **(lacking | own),
        )

    @contextmanager
    def _store(self) -> Iterator[FactorStore]:
        folder = self.folder / "factors"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield FactorStore(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _why_not(space: str, store: FactorStore, name: str) -> str | None:
    """Why a space cannot represent an adapter whose factors are known; None if it does."""
    if not store.layers(name):
        return store.beside(name) or "no LoRA factors of linear layers"
    return None if space == WEIGHTS else store.beside(name)
