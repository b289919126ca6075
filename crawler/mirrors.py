"""Which repositories are copies of a base, and which are finetunes that kept its name."""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hubdelta.crawler.adapter_files import has_model_weights, model_weights
from hubdelta.crawler.base import BaseModel
from hubdelta.crawler.base_names import hub_name, is_variant, plain_name
from hubdelta.crawler.catalog import CONTENT, NAMED, contents
from hubdelta.crawler.entry import Entry
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.lineage import BaseFamily, Evidence
from hubdelta.crawler.same_weights import Weights, same_weights
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.keys import AdapterKey
from hubdelta.schemas.kinds import Kind, Relation
from hubdelta.schemas.rows import CatalogRow

logger = logging.getLogger(__name__)


class Verdict(NamedTuple):
    """What a repository that looks like a copy of the base is.

    Attributes:
        is_mirror: whether it is one; if not, it is a separate base under the base's name.
        evidence: `content` if the weights were compared, so that this need not be repeated.
    """

    is_mirror: bool
    evidence: Evidence


class Mirrors:
    """Tells mirrors from finetunes by their content, once per commit.

    A quantized copy is recognized by its metadata, since its values differ. Any other copy holds
    the base's own weights. A repository whose weights cannot be read now does not count as a mirror
    until they can.

    Args:
        hub: where to look.
        family: the base's; every repository judged is added to it.
        base: returns the base with its weights; called once there is something to compare.
        rows: the newest of the catalog; what they record is not checked again.
    """

    def __init__(
        self,
        hub: Hub,
        family: BaseFamily,
        base: Callable[[], BaseModel],
        rows: Iterable[CatalogRow] = (),
    ) -> None:
        self._hub, self._family, self._find_base = hub, family, base
        self._base: BaseModel | None = None
        self._weights: Weights | None = None
        self._unreadable: AdapterError | None = None  # why the base's own weights cannot be read
        self._known: dict[AdapterKey, Verdict] = {}
        self._unverified: list[CatalogRow] = []
        for row in rows:
            if row.kind == Kind.MIRROR and row.relation == Relation.QUANTIZED:
                family.add_mirror(row.repo_id)
            elif row.kind in {Kind.MIRROR, Kind.FULL} and row.evidence == CONTENT:
                verdict = Verdict(row.kind == Kind.MIRROR, CONTENT)
                self._known[AdapterKey(row.repo_id, "", row.revision)] = verdict
                self._tell_family(row.repo_id, verdict)
            elif row.kind == Kind.MIRROR or self._may_be_mirror(row):
                self._unverified.append(row)

    def judge(self, entry: Entry) -> Verdict | None:
        """What a repository is, or None if nothing suggests that it is a copy of the base.

        Raises:
            HubError: offline, or a refused token.
        """
        family = self._family
        if not has_model_weights(entry.files) or family.is_base(entry.repo_id):
            return None
        held = [(kind, folder) for kind, folder, _ in contents(entry)]
        kinds = {kind for kind, _ in held}
        if Kind.FULL not in kinds or (Kind.ADAPTER, "") in held or entry.relation == Relation.MERGE:
            return None
        descends = any(family.is_base(name) or family.mirror(name) for name in entry.bases)
        has_name = self._has_base_name(entry.repo_id, _earlier_names(entry, family))
        # Under another name it may be a quantized finetune, such as DeepSeek's fp8 models.
        quantized = entry.relation == Relation.QUANTIZED or (entry.is_quantized and has_name)
        # Beside an adapter, quantized weights may be the result of merging the adapter.
        if quantized and descends and Kind.ADAPTER not in kinds:
            verdict = Verdict(self._has_architecture(entry), "tag")
            if entry.relation != Relation.QUANTIZED:  # the row's relation has to show the evidence
                verdict = verdict._replace(evidence=CONTENT)
        elif quantized or not has_name:
            return None
        else:
            files = model_weights(entry.files)
            verdict = self._compare(AdapterKey(entry.repo_id, "", entry.sha), files)
        self._tell_family(entry.repo_id, verdict)
        return verdict

    def unverified(self) -> list[tuple[CatalogRow, Verdict]]:
        """Rows that earlier crawls wrote without reading the content, with their verdicts now.

        Rows about which nothing more is known are left out.

        Raises:
            HubError: offline, or a refused token.
        """
        judged = []
        for row in self._unverified:
            key = AdapterKey(row.repo_id, "", row.revision)
            verdict = self._compare(key, row.weights_files)
            self._tell_family(row.repo_id, verdict)
            if verdict.evidence == CONTENT:
                judged.append((row, verdict))
        return judged

    def _may_be_mirror(self, row: CatalogRow) -> bool:
        whole = row.kind == Kind.FULL and not row.subfolder and row.evidence != NAMED
        return whole and row.canonical_base == row.base and self._has_base_name(row.repo_id)

    def _has_base_name(self, repo_id: str, earlier: Iterable[str] = ()) -> bool:
        names = map(plain_name, (*self._family.own_names, *earlier))
        return any(is_variant(plain_name(repo_id), name) for name in names)

    def _tell_family(self, repo_id: str, verdict: Verdict) -> None:
        if verdict.is_mirror:
            self._family.add_mirror(repo_id)
        else:
            self._family.add_namesake(repo_id)

    def _compare(self, key: AdapterKey, files: list[str]) -> Verdict:
        if key not in self._known:
            try:
                is_mirror = same_weights(self._original(), Weights(self._hub, key, files))
            except AdapterError as error:
                logger.warning(
                    "%s has the name of %s; whether it has the same weights is unknown, and it "
                    "counts as a finetune until the next crawl: %s",
                    key.repo_id,
                    self._family.base,
                    error,
                )
                return Verdict(False, "tag")
            self._known[key] = Verdict(is_mirror, CONTENT)
        return self._known[key]

    def _original(self) -> Weights:
        base = self._base_model()
        if self._unreadable is not None:
            raise self._unreadable
        if self._weights is None:
            weights = Weights(self._hub, AdapterKey(base.repo_id, "", base.revision), base.weights)
            try:
                _ = weights.hashes
            except AdapterError as error:
                self._unreadable = error
                raise
            self._weights = weights
        return self._weights

    def _base_model(self) -> BaseModel:
        if self._base is None:
            self._base = self._find_base()
        return self._base

    def _has_architecture(self, entry: Entry) -> bool:
        """Whether a model has the base's architecture, as far as the Hub says.

        The text part of a multimodal model has a related model type: gemma3_text, mistral.
        """
        own, base = entry.model_type, self._base_model().model_type
        return not own or not base or own.startswith(base) or base.startswith(own)


def _earlier_names(entry: Entry, family: BaseFamily) -> list[str]:
    """Earlier names of the base in a card: after a rename, the Hub updates only the tags."""
    if len(entry.bases) != 1 or not family.is_base(entry.bases[0]) or len(entry.card_bases) != 1:
        return []
    return [name for name in map(hub_name, entry.card_bases) if name]
