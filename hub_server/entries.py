"""A repository as JSON: the fields of listings and model_info."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hubdelta.hub_server.access import Caller
from hubdelta.hub_server.blobs import Blob
from hubdelta.hub_server.metadata import Metadata
from hubdelta.hub_server.repository import HubFolder, Repository
from hubdelta.hub_server.snapshot import Snapshot
from hubdelta.schemas.kinds import Relation


@dataclass(frozen=True)
class View:
    """A repository at a commit, as one caller sees it.

    Attributes:
        hub: where its bases and children are looked up.
        caller: determines which of those are visible.
        repository: the repository.
        snapshot: the commit that the fields are read from.
        current_name: gives the current name of a base; a listing caches each for one page.
    """

    hub: HubFolder
    caller: Caller
    repository: Repository
    snapshot: Snapshot
    current_name: Callable[[str], str]

    @property
    def metadata(self) -> Metadata:
        """What the commit declares."""
        return self.snapshot.metadata

    @property
    def tags(self) -> list[str]:
        """Its tags, with the bases under their current names."""
        return self.metadata.tags(self.current_name)

    @property
    def children(self) -> dict[str, int]:
        """How many repositories name this one as their base, by relation."""
        counts: Counter[str] = Counter()
        for other in self.hub.all():
            metadata = other.current.metadata
            names = {self.current_name(base) for base in metadata.base_models}
            if self.repository.id in names and self.caller.sees(other):
                counts[metadata.relation] += 1
        return {relation.value: counts[relation] for relation in Relation}

    @property
    def base_models(self) -> dict[str, Any] | None:
        """The bases that this caller can see here, with their relation."""
        found = (self.hub.get(self.current_name(base)) for base in self.metadata.base_models)
        models = [
            {"_id": base.internal_id, "id": base.id}
            for base in found
            if base is not None and self.caller.sees(base)
        ]
        return {"relation": self.metadata.relation, "models": models} if models else None


def wire_time(moment: datetime) -> str:
    """A time as the Hub writes it: UTC with milliseconds and a Z."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def lfs_fields(blob: Blob, digest_key: str) -> dict[str, Any]:
    """The `lfs` object of a file in git-lfs; the API calls its digest `oid` or `sha256`."""
    return {digest_key: blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}


def _siblings(view: View) -> list[dict[str, Any]]:
    return [{"rfilename": path} for path in view.snapshot.files]


def siblings_with_blobs(view: View) -> list[dict[str, Any]]:
    """The files with sizes and hashes, as `model_info(files_metadata=True)` asks for them."""
    siblings = []
    for path in view.snapshot.files:
        blob = view.snapshot.blob(path)
        sibling: dict[str, Any] = {"rfilename": path, "blobId": blob.oid, "size": blob.size}
        if blob.sha256 is not None:
            sibling["lfs"] = lfs_fields(blob, "sha256")
        siblings.append(sibling)
    return siblings


def _downloads_all_time(view: View) -> int:
    settings = view.repository.settings
    return (
        settings.downloads if settings.downloads_all_time is None else settings.downloads_all_time
    )


def _card(key: str) -> Callable[[View], Any]:
    return lambda view: (view.metadata.card_data or {}).get(key)


def _mask_token(view: View) -> Any:
    return ((view.metadata.config or {}).get("tokenizer_config") or {}).get("mask_token")


# One line for each field of the API. None leaves the field out, as the Hub does.
FIELDS: dict[str, Callable[[View], Any]] = {
    "author": lambda view: view.repository.author,
    "baseModels": lambda view: view.base_models,
    "cardData": lambda view: view.metadata.card_data,
    "childrenModelCount": lambda view: view.children,
    "config": lambda view: view.metadata.config,
    "createdAt": lambda view: wire_time(view.repository.created_at),
    "disabled": lambda view: view.repository.settings.disabled,
    "downloads": lambda view: view.repository.settings.downloads,
    "downloadsAllTime": _downloads_all_time,
    "evalResults": lambda view: None,
    "gated": lambda view: view.repository.settings.gated,
    "gguf": lambda view: None,
    "inference": lambda view: None,
    "inferenceProviderMapping": lambda view: [],
    "lastModified": lambda view: wire_time(view.repository.last_modified),
    "library_name": lambda view: view.metadata.library_name,
    "likes": lambda view: view.repository.settings.likes,
    "mask_token": _mask_token,
    "model-index": _card("model-index"),
    "modelId": lambda view: view.repository.id,
    "pipeline_tag": lambda view: view.metadata.pipeline_tag,
    "private": lambda view: view.repository.settings.private,
    "resourceGroup": lambda view: None,
    "safetensors": lambda view: view.metadata.safetensors,
    "sha": lambda view: view.snapshot.sha,
    "siblings": _siblings,
    "spaces": lambda view: [],
    "tags": lambda view: view.tags,
    "transformersInfo": lambda view: view.metadata.transformers_info,
    "trendingScore": lambda view: view.repository.settings.trending_score,
    "usedStorage": lambda view: view.snapshot.bytes,
    "widgetData": _card("widget"),
    "xetEnabled": lambda view: False,
}
EXPANDABLE = frozenset(FIELDS) - {"modelId"}
# The Hub answers 400 to these on a listing, though not on model_info.
LISTING_EXPANDABLE = EXPANDABLE - {"childrenModelCount", "usedStorage"}
_ALWAYS = ("likes", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt")
_WHOLE = ("author", "sha", "lastModified", "gated", "disabled", "siblings", "modelId")
LISTING_DEFAULT = (*_ALWAYS, "trendingScore", "modelId")
LISTING_FULL = (*_ALWAYS, "trendingScore", *_WHOLE)
_CONTENT = ("cardData", "config", "model-index", "transformersInfo", "safetensors", "usedStorage")
INFO_DEFAULT = (*_ALWAYS, *_WHOLE, *_CONTENT, "mask_token", "widgetData", "spaces")


def entry(view: View, fields: Iterable[str], *, expanded: bool = False) -> dict[str, Any]:
    """One repository with the requested fields, after `_id` and `id`.

    Args:
        view: the repository.
        fields: keys of `FIELDS`.
        expanded: whether `expand` requested them: the Hub then sends an absent `model-index` as
            null.

    Raises:
        OSError: when one of its files cannot be read.
    """
    values: dict[str, Any] = {"_id": view.repository.internal_id, "id": view.repository.id}
    for name in fields:
        value = FIELDS[name](view)
        if value is not None or (expanded and name == "model-index"):
            values[name] = value
    return values
