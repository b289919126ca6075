"""From a repository to catalog rows, and what those rows tell the next crawl."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from hubdelta.crawler.adapter_files import (
    adapters_in,
    model_weights,
    models_in,
    steps_in,
    unreadable_weights,
)
from hubdelta.crawler.base_names import hub_name, plain_name
from hubdelta.crawler.entry import Entry
from hubdelta.crawler.lineage import BaseFamily, Conclusion, Evidence
from hubdelta.schemas.kinds import Kind, Relation
from hubdelta.schemas.rows import CatalogRow

NAMED: Final = "named"
"""Evidence of a row that the user asked for by name."""

CONTENT: Final = "content"
"""Evidence of a row of a model with the base's name: its weights were compared with the base's."""

COPIES: Final = frozenset({Relation.QUANTIZED, Relation.MERGE})
"""Relations of whole models that are not finetunes."""


@dataclass(frozen=True)
class Sighting:
    """When, and in which crawl, rows are made.

    Attributes:
        base: the base that is crawled.
        run_id: the crawl.
        at: now, in UTC.
    """

    base: str
    run_id: str
    at: datetime


def adapter_rows(
    entry: Entry, conclusion: Conclusion, in_subfolders: Conclusion, sighting: Sighting
) -> list[CatalogRow]:
    """A row for each adapter and each finetune of a repository.

    A repository without either, but that says it is an adapter, is one whose weights are missing.
    If there is a whole model, the lineage tag is about that, not about adapters beside it.

    Args:
        entry: the repository.
        conclusion: which base it belongs to.
        in_subfolders: which base its subfolders belong to: the Hub shows the adapter_config.json
            of the root, and theirs are read with their weights.
        sighting: when and where it was seen.
    """
    held = [
        item for item in contents(entry) if item[0] == Kind.ADAPTER or entry.relation not in COPIES
    ]
    rows = [
        _row(entry, in_subfolders if subfolder else conclusion, sighting, kind, subfolder, weights)
        for kind, subfolder, weights in held
    ]
    return _related(entry, rows)


def mirror_rows(entry: Entry, evidence: Evidence, sighting: Sighting) -> list[CatalogRow]:
    """The row of a mirror of the base, and rows of adapters in its folders."""
    conclusion = Conclusion(sighting.base, evidence)
    beside = Conclusion(sighting.base, "mirror", entry.repo_id)
    adapters = adapter_rows(entry, beside, beside, sighting)
    return [
        _row(entry, conclusion, sighting, Kind.MIRROR, "", model_weights(entry.files)),
        *(row for row in adapters if row.kind == Kind.ADAPTER),
    ]


def named_rows(
    entry: Entry,
    conclusion: Conclusion,
    sighting: Sighting,
    found: Iterable[tuple[str, str, list[str]]],
) -> list[CatalogRow]:
    """The rows of adapters and whole models that the user asked for by name.

    Args:
        entry: the repository.
        conclusion: which base they belong to.
        sighting: when that was.
        found: kind, subfolder and weight files of each.
    """
    rows = [replace(_row(entry, conclusion, sighting, *item), evidence=NAMED) for item in found]
    return _related(entry, rows)


def is_adapter_repo(entry: Entry) -> bool:
    """Whether a repository says that it holds an adapter, wherever its files are."""
    return (
        entry.relation == Relation.ADAPTER
        or entry.has_adapter_config
        or entry.library_name == "peft"
        or bool(adapters_in(entry.files))
    )


def contents(entry: Entry, subfolder: str = "") -> list[tuple[str, str, list[str]]]:
    """The adapters and models of a repository: kind, subfolder and weight files of each.

    Args:
        entry: the repository.
        subfolder: only what is in this folder, including intermediate checkpoints; by default all
            that a crawl records, with weights in unreadable formats only if there are no others.
    """
    checkpoints = bool(subfolder)
    adapters = adapters_in(entry.files, checkpoints=checkpoints)
    models = models_in(entry.files, checkpoints=checkpoints)
    if models and not any(adapters.values()):
        adapters = {}
    found = [
        *((Kind.ADAPTER, folder, weights) for folder, weights in adapters.items()),
        *(
            (Kind.FULL, folder, weights)
            for folder, weights in models.items()
            if folder not in adapters
        ),
    ]
    if subfolder:
        return [item for item in found if item[1] == subfolder]
    others = unreadable_weights(entry.files)
    # Intermediate checkpoints of one kind do not count beside finished weights of the other.
    if chosen := [item for item in found if not steps_in([item[1]])] or found:
        return [
            (kind, folder, weights or [path for path in others if _is_below(path, folder)])
            for kind, folder, weights in chosen
        ]
    return [(Kind.ADAPTER if is_adapter_repo(entry) else Kind.FULL, "", others)]


def reclassified(
    model: CatalogRow, is_mirror: bool, rows: Iterable[CatalogRow], sighting: Sighting
) -> list[CatalogRow]:
    """Rows to amend once the content of a model with the base's name is known.

    Args:
        model: its row.
        is_mirror: whether it holds the base's weights.
        rows: the newest of the catalog, which include those of its adapters.
        sighting: for the new rows.
    """
    name, kind = model.repo_id, Kind.MIRROR if is_mirror else Kind.FULL
    amended = [replace(model, kind=kind, evidence=CONTENT)]
    for row in rows:
        named = {text.casefold() for text in (row.via, row.canonical_base) if text}
        if row.kind != Kind.ADAPTER or name.casefold() not in named:
            continue
        if is_mirror:
            conclusion = Conclusion(model.base, "mirror", name)
        else:
            declared = (hub_name(row.declared_base or "") or "").casefold() == name.casefold()
            conclusion = Conclusion(name, "peft_config" if declared else "tag")
        amended.append(replace(row, **conclusion._asdict()))
    return [replace(row, crawled_at=sighting.at, run_id=sighting.run_id) for row in amended]


def known_answers(rows: Iterable[CatalogRow], family: BaseFamily) -> dict[str, Conclusion]:
    """What the Hub answered about declared names, as rows of earlier crawls prove.

    Names that the Hub did not know are not included: that may have changed, and is asked again. A
    mirror is believed as long as it is in the family.
    """
    base = family.base
    answers: dict[str, Conclusion] = {}
    for row in rows:
        name, canonical, via = hub_name(row.declared_base or ""), row.canonical_base, row.via
        if name is None or canonical is None or row.evidence == NAMED:
            continue
        if canonical != base:
            if canonical.casefold() != name.casefold():  # else it may be hidden
                answers[name] = Conclusion(canonical, "peft_config")
        elif via is not None:
            # Else the tags may have named the mirror.
            if via.casefold() == name.casefold() and family.mirror(via):
                answers[name] = Conclusion(base, "mirror", via)
        elif plain_name(name) != plain_name(base):  # else it may be a hidden copy
            answers[name] = Conclusion(base, "tag")
    return answers


def _related(entry: Entry, rows: list[CatalogRow]) -> list[CatalogRow]:
    """Rows of a repository in which a lineage tag `finetune` applies to the whole model only."""
    if entry.relation != Relation.FINETUNE or all(
        kind == Kind.ADAPTER for kind, _, _ in contents(entry)
    ):
        return rows
    return [
        replace(row, relation=Relation.ADAPTER) if row.kind == Kind.ADAPTER else row for row in rows
    ]


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _row(
    entry: Entry,
    conclusion: Conclusion,
    sighting: Sighting,
    kind: str,
    subfolder: str,
    weights: Sequence[str],
) -> CatalogRow:
    return CatalogRow(
        base=sighting.base,
        repo_id=entry.repo_id,
        subfolder=subfolder,
        revision=entry.sha,
        kind=kind,
        relation=entry.relation,
        canonical_base=conclusion.canonical_base,
        evidence=conclusion.evidence,
        declared_base=None if subfolder else entry.declared_base,
        via=conclusion.via,
        weights_files=list(weights),
        author=entry.author,
        created_at=entry.created_at,
        last_modified=entry.last_modified,
        downloads=entry.downloads,
        likes=entry.likes,
        gated=entry.gated,
        private=entry.private,
        disabled=entry.disabled,
        library_name=entry.library_name,
        pipeline_tag=entry.pipeline_tag,
        task_type=entry.task_type,
        license=entry.license,
        datasets=entry.datasets,
        languages=entry.languages,
        tags=entry.tags,
        vanished_at=None,
        crawled_at=sighting.at,
        run_id=sighting.run_id,
    )
