"""One dataclass per table: each field carries its Arrow type, its meaning and its unit.

The Arrow schemas are derived from these classes, so a column is described in one place; its
description and unit travel in the Parquet files as field metadata.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_TIME = pa.timestamp("us", tz="UTC")
_STRINGS = pa.list_(pa.string())


def _column(arrow: pa.DataType, about: str, unit: str = "") -> Any:
    return field(metadata={"arrow": arrow, "about": about, "unit": unit})


def _added_column(arrow: pa.DataType, about: str, unit: str = "") -> Any:
    """A column that rows of earlier versions lack."""
    return field(default=None, metadata={"arrow": arrow, "about": about, "unit": unit})


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of one table of an index."""

    table: ClassVar[str]
    by_base: ClassVar[bool] = True
    """Whether the table has a folder per base, whose name holds the column `base`."""


@dataclass(frozen=True, kw_only=True)
class CatalogRow(Row):
    """An adapter as the Hub listed it: a row per (key, crawl that saw it change)."""

    table: ClassVar[str] = "catalog"

    base: str = _column(pa.string(), "base model that was crawled, ORG/NAME")
    repo_id: str = _column(pa.string(), "repository, ORG/NAME, or a local folder's path")
    subfolder: str = _column(pa.string(), "folder that holds the adapter; empty for the root")
    revision: str = _column(pa.string(), "40-hex commit of the repository")
    kind: str = _column(
        pa.string(), "adapter (PEFT), full (a full finetune) or mirror (a copy of the base)"
    )
    relation: str | None = _column(
        pa.string(),
        "adapter, finetune, quantized or merge, as tagged; adapter beside a whole model",
    )
    canonical_base: str | None = _column(
        pa.string(), "the base it was found to belong to; differs from base on a contradiction"
    )
    evidence: str = _column(
        pa.string(),
        "evidence for it: tag, card, peft_config, mirror, local_path, content or named",
    )
    declared_base: str | None = _column(
        pa.string(), "base_model_name_or_path of adapter_config.json, as written"
    )
    via: str | None = _column(pa.string(), "the mirror of the base that it names, if any")
    weights_files: list[str] = _column(
        _STRINGS,
        "weight files, as paths inside the repository; for shards the index file that names them",
    )
    author: str | None = _column(pa.string(), "owner of the repository")
    created_at: datetime | None = _column(_TIME, "creation of the repository")
    last_modified: datetime | None = _column(_TIME, "newest commit of the repository")
    downloads: int | None = _column(pa.int64(), "downloads in the last 30 days", "downloads")
    likes: int | None = _column(pa.int64(), "likes", "likes")
    gated: str | None = _column(pa.string(), "auto or manual where files need an approved request")
    private: bool = _column(pa.bool_(), "visible to its owner only")
    disabled: bool = _column(pa.bool_(), "switched off by the Hub")
    library_name: str | None = _column(pa.string(), "library that loads it")
    pipeline_tag: str | None = _column(pa.string(), "task, in the Hub's words")
    task_type: str | None = _column(pa.string(), "task_type of adapter_config.json")
    license: str | None = _column(pa.string(), "license, as declared")
    datasets: list[str] = _column(_STRINGS, "datasets it declares")
    languages: list[str] = _column(_STRINGS, "languages it declares")
    tags: list[str] = _column(_STRINGS, "every tag of the repository")
    vanished_at: datetime | None = _column(_TIME, "when a full crawl found it gone")
    crawled_at: datetime = _column(_TIME, "when the row was made; later than all before it")
    run_id: str = _column(pa.string(), "run that made the row")

    def after(self, before: "CatalogRow | None") -> "CatalogRow":
        """This row, dated later than the one it replaces, even if a clock was ahead then."""
        if before is None or self.crawled_at > before.crawled_at:
            return self
        return replace(self, crawled_at=before.crawled_at + timedelta(microseconds=1))


@dataclass(frozen=True, kw_only=True)
class VectorRow(Row):
    """The vector of one adapter: a row per (key, recipe)."""

    table: ClassVar[str] = "vectors"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    base_revision: str = _column(pa.string(), "40-hex commit of the base")
    repo_id: str = _column(pa.string(), "repository, ORG/NAME, or a local folder's path")
    subfolder: str = _column(pa.string(), "folder that holds the adapter; empty for the root")
    revision: str = _column(pa.string(), "40-hex commit of the repository")
    recipe_id: str = _column(
        pa.string(), "hash of base, base commit, probe set, layer, token and pooling"
    )
    probe_set: str = _column(pa.string(), "name of the probe set")
    probe_set_id: str = _column(pa.string(), "hash of the prompts")
    delta: npt.NDArray[np.float32] = _column(
        pa.list_(pa.float32()), "Delta Activation: mean over probes of h_adapter - h_base, [hidden]"
    )
    norm: float = _column(pa.float64(), "L2 norm of delta", "hidden-state units")
    signal: float = _column(
        pa.float64(),
        "norm over the noise floor of the run; good at 60 or more: cosine to fp32 at least .999",
        "ratio",
    )
    engine: str = _column(pa.string(), "engine that made it")
    precision: str = _column(pa.string(), "arithmetic that made it: fp32, ...")
    adapter_type: str = _column(pa.string(), "PEFT type (LORA, ...) or FULL")
    rank: int | None = _column(pa.int32(), "r of a low-rank adapter")
    alpha: float | None = _column(pa.float64(), "alpha of a low-rank adapter")
    target_modules: list[str] = _column(_STRINGS, "module names that the weights adapt")
    weight_bytes: int = _column(pa.int64(), "size of the weight files", "bytes")
    card: str | None = _added_column(
        pa.string(), "first 4,000 characters of its model card, without front matter and code"
    )
    files: dict[str, str] | None = _added_column(
        pa.map_(pa.string(), pa.string()),
        "files that it was made from, and its card, by path: SHA-256, or git's hash of a small "
        "file; empty for a file that was not there; null where the Hub does not say",
    )
    embedded_at: datetime = _column(
        _TIME, "when the vector was made, or kept for a new commit that changed none of its files"
    )
    run_id: str = _column(pa.string(), "run that made the row")


@dataclass(frozen=True, kw_only=True)
class FailureRow(Row):
    """An attempt that gave no vector."""

    table: ClassVar[str] = "failures"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    repo_id: str = _column(pa.string(), "repository, ORG/NAME, or a local folder's path")
    subfolder: str = _column(pa.string(), "folder that holds the adapter; empty for the root")
    revision: str = _column(
        pa.string(), "40-hex commit of the repository; empty where the Hub does not tell it"
    )
    reason: str = _column(pa.string(), "one of a fixed list of reasons")
    message: str = _column(pa.string(), "what happened and what to do, on one line")
    attempt: int = _column(pa.int32(), "which attempt this was, from 1")
    failed_at: datetime = _column(_TIME, "when it failed")
    due_at: datetime | None = _column(
        _TIME, "when to try again; null: when the repository changes, or on demand"
    )
    run_id: str = _column(pa.string(), "run that made the row")


@dataclass(frozen=True, kw_only=True)
class BaseRow(Row):
    """The base's own response to the probes: a row per (recipe, engine, precision, run)."""

    table: ClassVar[str] = "bases"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    base_revision: str = _column(pa.string(), "40-hex commit of the base")
    recipe_id: str = _column(
        pa.string(), "hash of base, base commit, probe set, layer, token and pooling"
    )
    probe_set: str = _column(pa.string(), "name of the probe set")
    probe_set_id: str = _column(pa.string(), "hash of the prompts")
    prompts: list[str] = _column(_STRINGS, "the probes, in order")
    layer: str = _column(pa.string(), "where the hidden state is read")
    token: str = _column(
        pa.string(),
        "at which token: last, mean for the mean over a probe's tokens, decoder_start",
    )
    pooling: str = _column(pa.string(), "how the probes become one vector")
    model_type: str = _column(pa.string(), "architecture, as config.json names it")
    hidden_size: int = _column(pa.int32(), "d, the length of a vector", "dimensions")
    activations: list[npt.NDArray[np.float32]] = _column(
        pa.list_(pa.list_(pa.float32())), "h_base, [probes, hidden]"
    )
    noise_floor: float = _column(
        pa.float64(),
        "largest L2 norm of a delta made by arithmetic alone, the base against itself",
        "hidden-state units",
    )
    cosine: float | None = _added_column(
        pa.float64(),
        "least cosine between deltas in this precision and in fp32, of trial edits from strong to "
        "weak; null for fp32, and where it was not measured",
    )
    engine: str = _column(pa.string(), "engine that made it")
    precision: str = _column(pa.string(), "arithmetic that made it: fp32, ...")
    embedded_at: datetime = _column(_TIME, "when the row was made")
    run_id: str = _column(pa.string(), "run that made the row")


@dataclass(frozen=True, kw_only=True)
class RunRow(Row):
    """A crawl or an index run, written when it ends."""

    table: ClassVar[str] = "runs"
    by_base: ClassVar[bool] = False

    run_id: str = _column(pa.string(), "start time and a random suffix; sorts by time")
    kind: str = _column(pa.string(), "crawl or index")
    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    base_revision: str | None = _column(
        pa.string(), "index: 40-hex commit of the base that was used"
    )
    outcome: str = _column(pa.string(), "done, interrupted or failed")
    started_at: datetime = _column(_TIME, "start of the run")
    seconds: float = _column(pa.float64(), "wall time", "seconds")
    requests: int = _column(pa.int64(), "HTTP requests sent to the Hub", "requests")
    resolves: int | None = _added_column(
        pa.int64(),
        "file resolves among them, which the Hub limits; index: for the adapters alone",
        "requests",
    )
    fetched_bytes: int | None = _added_column(
        pa.int64(), "response bodies received from the Hub, without the base's files", "bytes"
    )
    needed_bytes: int | None = _added_column(
        pa.int64(), "index: those that the vectors need, with headers and configs", "bytes"
    )
    busy: dict[str, float] | None = _added_column(
        pa.map_(pa.string(), pa.float64()),
        "index: by stage (load, download, read, stack, compute, stream, write), how long it was "
        "busy",
        "seconds",
    )
    waited: dict[str, float] | None = _added_column(
        pa.map_(pa.string(), pa.float64()),
        "index: by stage, how long it was idle while adapters were pending",
        "seconds",
    )
    counts: dict[str, int] = _column(
        pa.map_(pa.string(), pa.int64()),
        "crawl: listed, new, changed, vanished; index: embedded, kept (at a new commit, since no "
        "file of theirs changed), skipped, failed and failed:REASON",
        "adapters",
    )
    marks: dict[str, datetime] = _column(
        pa.map_(pa.string(), _TIME),
        "crawl: newest lastModified seen by each listing; the next crawl walks down to it",
    )
    versions: dict[str, str] = _column(
        pa.map_(pa.string(), pa.string()), "versions of hubdelta and of the libraries used"
    )


@dataclass(frozen=True, kw_only=True)
class ClusterRow(Row):
    """A cluster of adapters that behave alike: a row per (cluster, run that saw it change)."""

    table: ClassVar[str] = "clusters"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    recipe_id: str = _column(
        pa.string(), "hash of base, base commit, probe set, layer, token and pooling"
    )
    cluster: int = _column(
        pa.int32(), "number of the cluster in its base; permanent and never reused"
    )
    members: list[str] = _column(
        _STRINGS, "its adapters, org/name[/subfolder], strongest first; empty once dissolved"
    )
    strengths: list[float] = _column(
        pa.list_(pa.float32()),
        "how firmly each member belongs to it, 0 to 1: HDBSCAN's probability",
        "ratio",
    )
    medoid: str | None = _column(
        pa.string(), "the member most similar to the others; null once dissolved"
    )
    cohesion: float | None = _column(
        pa.float64(), "mean cosine similarity of its members to each other; null once dissolved"
    )
    silhouette: float | None = _column(
        pa.float64(),
        "mean over members of (b - a) / max(a, b), a being the mean cosine distance to the others, "
        "b that to the nearest other cluster; null if there is no other",
    )
    clustered_at: datetime = _column(_TIME, "when the row was made")
    run_id: str = _column(pa.string(), "run that made the row")


@dataclass(frozen=True, kw_only=True)
class LabelRow(Row):
    """What a user says an adapter is for: an adapter's newest row counts."""

    table: ClassVar[str] = "labels"
    by_base: ClassVar[bool] = False

    adapter: str = _column(pa.string(), "org/name[/subfolder], or a local folder's path")
    label: str | None = _column(pa.string(), "the user's label; null removes it")
    labelled_at: datetime = _column(_TIME, "when the row was made")


@dataclass(frozen=True, kw_only=True)
class MapRow(Row):
    """An adapter's position on a map: a row per (map, adapter at a commit), never changed."""

    table: ClassVar[str] = "maps"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    recipe_id: str = _column(
        pa.string(), "hash of base, base commit, probe set, layer, token and pooling"
    )
    map_id: str = _column(
        pa.string(), "the layout it belongs to: start time and a random suffix; sorts by time"
    )
    adapter: str = _column(pa.string(), "org/name[/subfolder], or a local folder's path")
    revision: str = _column(pa.string(), "40-hex commit whose vector was placed")
    x: float = _column(pa.float64(), "to the right, about -1 to 1", "map units")
    y: float = _column(pa.float64(), "upwards, on the scale of x", "map units")
    method: str = _column(
        pa.string(),
        "how it was placed: tsne, umap or plane with the whole map; neighbors: later, among them",
    )
    placed_at: datetime = _column(_TIME, "when the row was made")


@dataclass(frozen=True, kw_only=True)
class PromotionRow(Row):
    """The tokens that an adapter makes more and less likely: an adapter's newest row counts."""

    table: ClassVar[str] = "promotions"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    recipe_id: str = _column(
        pa.string(), "hash of base, base commit, probe set, layer, token and pooling"
    )
    adapter: str = _column(pa.string(), "org/name[/subfolder], or a local folder's path")
    revision: str = _column(pa.string(), "40-hex commit of the adapter")
    promotes: list[str] = _column(
        _STRINGS,
        "tokens whose logits its delta raises most after the probes, beyond what the pool's mean "
        "does; strongest first",
    )
    promotes_by: list[float] = _column(
        pa.list_(pa.float32()), "by how much, mean over the probes", "logits"
    )
    suppresses: list[str] = _column(_STRINGS, "tokens whose logits it lowers most, likewise")
    suppresses_by: list[float] = _column(
        pa.list_(pa.float32()), "by how much, all negative", "logits"
    )
    pool: int = _column(pa.int32(), "adapters whose mean delta was subtracted", "adapters")
    read_at: datetime = _column(_TIME, "when the row was made")
    run_id: str = _column(pa.string(), "run that made the row")


@dataclass(frozen=True, kw_only=True)
class SpaceRow(Row):
    """An adapter in another space than its delta, as `hubdelta evaluate` computed it.

    A space has either vectors or inner products. Of an adapter's rows in one space and definition,
    all count: a later one adds inner products with adapters that came later.
    """

    table: ClassVar[str] = "spaces"

    base: str = _column(pa.string(), "base model, ORG/NAME or a local folder's path")
    base_revision: str = _column(pa.string(), "40-hex commit of the base")
    space: str = _column(pa.string(), "weights, update, salient, outputs or promoted")
    definition: str = _column(pa.string(), "what rows must share to be comparable, in words")
    adapter: str = _column(pa.string(), "org/name[/subfolder], or a local folder's path")
    revision: str = _column(pa.string(), "40-hex commit of the adapter")
    adapter_type: str = _column(pa.string(), "PEFT type (LORA, ...) or FULL")
    left_out: str | None = _column(
        pa.string(), "why the space cannot represent the adapter; null if it does"
    )
    dimension: int | None = _column(
        pa.int64(), "coordinates of the adapter in the space; null if left out", "dimensions"
    )
    vector: npt.NDArray[np.float32] | None = _column(
        pa.list_(pa.float32()), "the adapter in the space, [dimension]; null for inner products"
    )
    others: list[str] | None = _column(
        _STRINGS, "adapters, NAME@REVISION, that inner_products are with; null for a vector"
    )
    inner_products: list[float] | None = _column(
        pa.list_(pa.float64()),
        "with each of others, in their order; for salient, entries that both masks have",
    )
    seconds: float = _column(
        pa.float64(), "wall time of its computation: its share of what the run took", "seconds"
    )
    fetched_bytes: int = _column(
        pa.int64(), "received from the Hub for it, once for all spaces of the run", "bytes"
    )
    computed_at: datetime = _column(_TIME, "when the row was made")
    run_id: str = _column(pa.string(), "run that made the row")


TABLES: tuple[type[Row], ...] = (
    CatalogRow,
    VectorRow,
    FailureRow,
    BaseRow,
    RunRow,
    ClusterRow,
    LabelRow,
    MapRow,
    PromotionRow,
    SpaceRow,
)
