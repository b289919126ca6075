"""One repository as the Hub lists it, parsed as untrusted input."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from huggingface_hub.utils import parse_datetime

from hubdelta.schemas.keys import is_commit
from hubdelta.schemas.kinds import Relation

logger = logging.getLogger(__name__)

_LONGEST_PART: Final = 255  # bytes of a file's name, on all usual file systems
_LONGEST_PATH: Final = 1024  # bytes; what object storage allows

_REPO_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_LINEAGE_TAG = re.compile(rf"base_model:({'|'.join(Relation)}):(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the Hub says of a repository at one commit; every text is valid UTF-8.

    Attributes:
        bases: base models by lineage tag, under their current names, in the order of the tags.
        relation: how it relates to them.
        card_bases: `base_model` of the card, as written.
        declared_base: `base_model_name_or_path` of adapter_config.json, as written.
        has_adapter_config: whether the Hub found an adapter_config.json (`config.peft`).
        model_type: of config.json.
        is_quantized: whether config.json has a `quantization_config`.
        files: paths inside the repository, without those unsafe for a disk or terminal.
    """

    repo_id: str
    sha: str
    author: str | None
    created_at: datetime | None
    last_modified: datetime | None
    downloads: int | None
    likes: int | None
    gated: str | None
    private: bool
    disabled: bool
    library_name: str | None
    pipeline_tag: str | None
    relation: str | None
    bases: tuple[str, ...]
    card_bases: tuple[str, ...]
    declared_base: str | None
    has_adapter_config: bool
    model_type: str | None
    is_quantized: bool
    task_type: str | None
    license: str | None
    datasets: list[str]
    languages: list[str]
    tags: list[str]
    files: list[str]


def read_entry(raw: object) -> Entry:
    """Parse an entry of a listing, or the response about one model.

    A field of the wrong type counts as absent.

    Raises:
        ValueError: not an entry: not an object, or without a usable id or commit.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"not an object: {str(raw)[:80]!r}")
    repo_id, sha = _text(raw.get("id")), _text(raw.get("sha"))
    if repo_id is None or not is_repo_id(repo_id):
        raise ValueError(f"not a repository name: {str(raw.get('id'))[:120]!r}")
    if sha is None or not is_commit(sha):
        raise ValueError(f"{repo_id}: no commit ({str(raw.get('sha'))[:80]!r})")
    card = _object(raw.get("cardData"))
    config = _object(raw.get("config"))
    peft = _object(config.get("peft"))
    tags = _texts(raw.get("tags"))
    relation, bases = _lineage(_object(raw.get("baseModels")), tags)
    return Entry(
        repo_id=repo_id,
        sha=sha,
        author=_text(raw.get("author")),
        created_at=_time(raw.get("createdAt")),
        last_modified=_time(raw.get("lastModified")),
        downloads=_count(raw.get("downloads")),
        likes=_count(raw.get("likes")),
        gated="manual" if raw.get("gated") is True else _text(raw.get("gated")),
        private=raw.get("private") is True,
        disabled=raw.get("disabled") is True,
        library_name=_text(raw.get("library_name")),
        pipeline_tag=_text(raw.get("pipeline_tag")),
        relation=relation,
        bases=bases,
        card_bases=tuple(_texts(card.get("base_model"))),
        declared_base=_text(peft.get("base_model_name_or_path")),
        has_adapter_config="peft" in config,
        model_type=_text(config.get("model_type")),
        is_quantized=bool(_object(config.get("quantization_config"))),
        task_type=_text(peft.get("task_type")),
        license=next(iter(_texts(card.get("license"))), None),
        datasets=_texts(card.get("datasets")),
        languages=_texts(card.get("language")),
        tags=tags,
        files=_files(raw.get("siblings"), repo_id),
    )


def is_repo_id(text: str) -> bool:
    """Whether it is written as a name on the Hub, `ORG/NAME`."""
    return len(text) <= 96 and _REPO_ID.fullmatch(text) is not None and ".." not in text


def _lineage(base_models: dict[str, object], tags: list[str]) -> tuple[str | None, tuple[str, ...]]:
    models = base_models.get("models")
    listed = [_object(model).get("id") for model in models] if isinstance(models, list) else []
    found = [match for tag in tags if (match := _LINEAGE_TAG.fullmatch(tag))]
    bases = [*(base for base in map(_text, listed) if base), *(match[2] for match in found)]
    relation = _text(base_models.get("relation")) or next((match[1] for match in found), None)
    return relation if relation in tuple(Relation) else None, tuple(dict.fromkeys(bases))


def _files(siblings: object, repo_id: str) -> list[str]:
    files = []
    for sibling in siblings if isinstance(siblings, list) else []:
        path = _object(sibling).get("rfilename")
        if isinstance(path, str) and is_usable_path(path):
            files.append(path)
        else:
            logger.debug("%s: skipped a file with an unusable path: %.200r", repo_id, path)
    return files


def is_usable_path(path: str) -> bool:
    """Whether it stays inside the repository and is safe for a disk, an index and a terminal."""
    if not path.isprintable() or "\\" in path:  # neither are controls and half surrogate pairs
        return False
    encoded = path.encode()
    parts = encoded.split(b"/")
    if {b"", b".", b".."} & set(parts):
        return False
    return len(encoded) <= _LONGEST_PATH and max(map(len, parts)) <= _LONGEST_PART


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return value.encode("utf-8", "replace").decode("utf-8")  # JSON can hold half a surrogate pair


def _texts(value: object) -> list[str]:
    values: Iterable[object] = value if isinstance(value, list) else [value]
    return [text for text in map(_text, values) if text is not None]


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _time(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_datetime(value)
    except ValueError:
        return None
