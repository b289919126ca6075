"""An evaluation: labels, what the index lacks of each space, and the scores."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hubdelta.evaluation.evaluate import Evaluation, evaluate
from hubdelta.evaluation.kept import Kept, read_kept
from hubdelta.evaluation.labels import Labeled, labels_by_pattern, scorable
from hubdelta.evaluation.members import Family, read_deltas, read_family, the_base
from hubdelta.evaluation.spaces import OUTPUTS, PROMOTED, SENTENCE_MODEL, Space
from hubdelta.indexer.probes import ALPACA_5, ProbeSet
from hubdelta.indexer.recipe import FINAL_NORM
from hubdelta.jobs.derived import refresh_cache
from hubdelta.jobs.promotions import base_states
from hubdelta.schemas.errors import UsageError
from hubdelta.schemas.index import Index, new_run_id
from hubdelta.schemas.keys import AdapterName
from hubdelta.schemas.rows import SpaceRow
from hubdelta.settings import open_hub, require_extra
from hubdelta.sql.connection import Queries, connect
from hubdelta.sql.script import write_script

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hubdelta.crawler.hub import Hub
    from hubdelta.evaluation.gaps import Gap

logger = logging.getLogger(__name__)

_MOST_BYTES: Final = 20 * 10**9
"""Weights of one adapter that are still fetched."""

_NAMED: Final = 3
"""How many unknown adapters to name."""


@dataclass(frozen=True)
class EvaluationRequest:
    """A request to `hubdelta evaluate`.

    Attributes:
        base: the base; None if the index has only one.
        labels: adapter → label; None for the labels of the index.
        labels_from: where these labels come from, in messages.
        pattern: a regular expression with a group `label`, in place of labels.
        spaces: the spaces.
        sentence_model: what embeds answers: ORG/NAME[@revision], or a local folder.
        probes: what adapters answer.
        wait: wait for a concurrent run to finish.
    """

    base: str | None
    spaces: Sequence[Space]
    labels: Mapping[str, str] | None = None
    labels_from: str = "the index"
    pattern: str | None = None
    sentence_model: str = SENTENCE_MODEL
    probes: ProbeSet = field(default=ALPACA_5)
    wait: bool = False


@dataclass(frozen=True)
class Answered:
    """An evaluation, and the adapters of its labels that have no comparable vector."""

    evaluation: Evaluation
    unknown: list[str]


def run_evaluation(
    index: Index, request: EvaluationRequest, on_progress: Callable[[str, int, int], None]
) -> Answered:
    """Score spaces, after computing what the index lacks of them.

    Args:
        index: an index.
        request: what to evaluate.
        on_progress: called with what is being done, how much of it is done, and how much there is.

    Raises:
        QueryError: the index has no such base, or no comparable vector.
        UsageError: labels that cannot be scored, or a wrong pattern.
        MissingExtraError: a space needs torch, which is not installed.
        IndexBusyError: another run holds the index.
        HubError: nothing can be fetched now.
    """
    stored = {space.stored for space in request.spaces if space.stored}
    with connect(index) as queries:
        family = read_family(queries, the_base(queries, request.base))
        labeled, unknown = _labeled(queries, family, request)
        _check_layer(family, request.spaces)
        deltas: dict[str, NDArray[np.float64]] = {}
        if PROMOTED in stored:
            rows = read_deltas(queries, family, labeled.labels)
            deltas = dict(zip(labeled.labels, rows, strict=True))
    if stored:
        require_extra("comparing other spaces than delta", "index")
    computation = _Computation(index, family, labeled, request, on_progress, deltas)
    if stored:
        computation.run(stored)
    with connect(index) as queries:
        scored = evaluate(
            queries, family, labeled, request.spaces, computation.kept(), computation.passing
        )
    weight_bytes = sum(family.members[name].weight_bytes for name in labeled.labels)
    found = Evaluation(family.base, labeled, scored, computation.computed, weight_bytes)
    return Answered(found, unknown)


def _check_layer(family: Family, spaces: Sequence[Space]) -> None:
    """Reject promoted tokens of vectors that the base's output layer does not take."""
    if family.layer != FINAL_NORM and any(space.name == PROMOTED for space in spaces):
        raise UsageError(
            f"the vectors of {family.base} are of layer {family.layer}, and the base's output "
            f"layer takes the state after the final norm: leave out {PROMOTED}"
        )


def stored_labels(queries: Queries, family: Family) -> dict[str, str]:
    """The labels that the index has of the adapters of a base."""
    rows = queries.run("SELECT adapter, label FROM labels").to_pylist()
    return {row["adapter"]: row["label"] for row in rows if row["adapter"] in family.members}


def _labeled(
    queries: Queries, family: Family, request: EvaluationRequest
) -> tuple[Labeled, list[str]]:
    """The labels to score, and the names in them that have no comparable vector."""
    if request.pattern is not None:
        found = labels_by_pattern(family.members, request.pattern)
        return scorable(found, f"{request.pattern!r}"), []
    if request.labels is None:
        return scorable(stored_labels(queries, family), request.labels_from), []
    unknown = sorted(request.labels.keys() - family.members.keys())
    if unknown:
        more = [*unknown[:_NAMED], *(["..."] if len(unknown) > _NAMED else [])]
        logger.warning(
            "%s of %s have labels and no comparable vector: %s",
            *(len(unknown), family.base, ", ".join(more)),
        )
    known = {name: label for name, label in request.labels.items() if name in family.members}
    return scorable(known, request.labels_from), unknown


@dataclass
class _Computation:
    """What a run adds to the index."""

    index: Index
    family: Family
    labeled: Labeled
    request: EvaluationRequest
    on_progress: Callable[[str, int, int], None]
    deltas: Mapping[str, "NDArray[np.float64]"]
    passing: dict[str, dict[str, str]] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    _definitions: dict[str, str] = field(default_factory=dict)

    def run(self, stored: set[str]) -> None:
        """Compute what is lacking of some spaces; nothing is written if nothing is."""
        from hubdelta.evaluation.gaps import definition_of

        with ExitStack() as stack:
            hub = stack.enter_context(open_hub())
            sentences = _SentenceFolder(
                self.request.sentence_model, hub, self.index, self.family.base
            )
            for space in stored:
                about = sentences.name if space == OUTPUTS else ""
                self._definitions[space] = definition_of(
                    space, about, self.request.probes, self.family.recipe_id
                )
            if not any(gap.new for gap in self._gaps()):
                return
            stack.enter_context(self.index.writing(wait=self.request.wait))
            Index.create(self.index.root)  # an index of an earlier version lacks this table
            gaps = [gap for gap in self._gaps() if gap.new]
            self._fill(gaps, hub, sentences)
            write_script(self.index)  # it may name files one by one
        self.computed = {gap.space: len(gap.new) for gap in gaps}
        refresh_cache(self.index)

    def kept(self) -> dict[str, Kept]:
        """The rows of each space."""
        family = self.family
        return read_kept(self.index, family.base, family.base_revision, self._definitions)

    def _gaps(self) -> "list[Gap]":
        from hubdelta.evaluation.gaps import Gap

        members = [self.family.members[name] for name in self.labeled.labels]
        return [
            Gap.of(space, self._definitions[space], members, kept)
            for space, kept in self.kept().items()
        ]

    def _fill(self, gaps: "Sequence[Gap]", hub: "Hub", sentences: "_SentenceFolder") -> None:
        from hubdelta.crawler.base_download import fetch_base, fetch_base_config
        from hubdelta.evaluation.compute import Workshop
        from hubdelta.evaluation.obtain import AdapterSource
        from hubdelta.evaluation.promoted import Vectors
        from hubdelta.indexer.base_structure import BaseStructure
        from hubdelta.indexer.process import use_threads

        use_threads(None)
        family, run_id = self.family, new_run_id(datetime.now(UTC))
        answering = [gap for gap in gaps if gap.space == OUTPUTS]
        promoting = [gap for gap in gaps if gap.space == PROMOTED]
        if family.base.startswith("/"):
            base_folder = Path(family.base)
        elif answering or promoting:
            base_folder = fetch_base(hub, family.base, family.base_revision)
        else:
            base_folder = fetch_base_config(hub, family.base, family.base_revision).parent
        sentence_folder = sentences.fetch() if answering else None
        folder = self.index.root / "downloads" / run_id
        source = AdapterSource(
            self.index,
            hub,
            BaseStructure.read(base_folder),
            family.base,
            folder / "adapters",
            _MOST_BYTES,
        )
        workshop = Workshop(
            self.index, family, source, folder, run_id, self.on_progress, self.passing
        )
        try:
            for gap in promoting:
                states = base_states(self.index, family.base, family.recipe_id)
                workshop.promoted(gap, base_folder, Vectors(self.deltas, states))
            of_factors = [gap for gap in gaps if gap.space not in (OUTPUTS, PROMOTED)]
            if of_factors:
                workshop.factor_spaces(of_factors)
            if sentence_folder is not None:
                (gap,) = answering
                workshop.answers(gap, base_folder, self.request.probes, sentence_folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _SentenceFolder:
    """The sentence model that a user names, at a commit or, of a local folder, with its hash.

    Args:
        name: ORG/NAME[@revision], or a local folder.
        hub: where to look for it.
        index: where the commit that was used before stands: rows of two are not comparable.

    Raises:
        UsageError: it is neither, or no folder.
    """

    def __init__(self, name: str, hub: "Hub", index: Index, base: str) -> None:
        self._name, self._hub = AdapterName.parse_base(name), hub
        self._before = _used_before(index, base, self._name.repo_id)

    @cached_property
    def name(self) -> str:
        """Its name and revision, as definitions state it.

        Raises:
            HubError: the Hub does not know it, or does not answer.
            NotABaseError: it holds no model.
        """
        if self._name.is_local:
            return f"sha1 {self._revision}"
        return f"{self._name.repo_id}@{self._revision}"

    def fetch(self) -> Path:
        """Its folder.

        Raises:
            HubError: it cannot be downloaded.
        """
        from hubdelta.crawler.base_download import fetch_base

        if self._name.is_local:
            return Path(self._name.repo_id)
        return fetch_base(self._hub, self._name.repo_id, self._revision)

    @cached_property
    def _revision(self) -> str:
        from hubdelta.crawler.base import find_base
        from hubdelta.indexer.adapters.local import folder_revision

        if self._name.is_local:
            return folder_revision(Path(self._name.repo_id))
        known = self._name.commit or (None if self._name.revision else self._before)
        return known or find_base(self._hub, self._name.repo_id, self._name.revision).revision


def _used_before(index: Index, base: str, sentence_model: str) -> str | None:
    """The commit of a sentence model in the newest row that it made."""
    columns = ["definition", "computed_at"]
    rows = index.read(SpaceRow, base=base, columns=columns).sort_by("computed_at").to_pylist()
    mark = f", {sentence_model}@"
    used = [row["definition"].rpartition(mark)[2] for row in rows if mark in row["definition"]]
    return used[-1] if used else None
