"""What a repository declares about itself in its card and configurations, read as the Hub does."""

import json
import logging
import re
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hubdelta.hub_server.blobs import StoredFile
from hubdelta.hub_server.card import UnreadableYAMLError, front_matter, read_json, strings
from hubdelta.schemas.kinds import Relation

logger = logging.getLogger(__name__)

# A name that can be a repository; a local path or an empty string gives no lineage tag, unless
# the card itself lists one among its tags (PEFT writes `base_model:adapter:<path>` there).
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")
_TEXT_BYTES = 32 * 1024 * 1024
_HEADER_BYTES = 100 * 1000 * 1000  # the safetensors format's own limit

# The ending of `architectures[0]` gives the task: transformers' AutoModel classes.
_TASKS = {
    "ForCausalLM": ("AutoModelForCausalLM", "text-generation"),
    "ForConditionalGeneration": ("AutoModelForSeq2SeqLM", "text2text-generation"),
    "ForMaskedLM": ("AutoModelForMaskedLM", "fill-mask"),
    "ForQuestionAnswering": ("AutoModelForQuestionAnswering", "question-answering"),
    "ForSequenceClassification": ("AutoModelForSequenceClassification", "text-classification"),
    "ForTokenClassification": ("AutoModelForTokenClassification", "token-classification"),
}
_LIBRARY_FILES = {
    "adapter_config.json": "peft",
    "modules.json": "sentence-transformers",
    "model_index.json": "diffusers",
}
_FORMAT_TAGS = {".safetensors": "safetensors", ".gguf": "gguf", ".onnx": "onnx"}


@dataclass(frozen=True)
class Metadata:
    """What the files of one commit say.

    Attributes:
        card_data: the card's front matter as written; None if there is no readable one.
        config: as the Hub extracts it from config.json, adapter_config.json and
            tokenizer_config.json.
        base_models: repositories the card names as bases, as written.
        relation: a `Relation`, to those bases.
        leading_tags: those before the lineage tags, in the Hub's order.
        trailing_tags: those after them.
        transformers_info: the Hub's guess at the class to load it with.
        safetensors: parameter counts of a full model's weights, by dtype and in total.
    """

    card_data: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    library_name: str | None = None
    pipeline_tag: str | None = None
    base_models: tuple[str, ...] = ()
    relation: str = Relation.FINETUNE
    leading_tags: tuple[str, ...] = ()
    trailing_tags: tuple[str, ...] = ()
    transformers_info: dict[str, str] | None = None
    safetensors: dict[str, Any] | None = field(default=None)

    def tags(self, current_name: Callable[[str], str]) -> list[str]:
        """All tags; bases appear under their current names, as given by `current_name`."""
        lineage: list[str] = []
        for base in map(current_name, self.base_models):
            lineage += [f"base_model:{base}", f"base_model:{self.relation}:{base}"]
        return list(dict.fromkeys([*self.leading_tags, *lineage, *self.trailing_tags]))


def read_metadata(files: Mapping[str, StoredFile]) -> Metadata:
    """Read what a commit declares; a file that cannot be understood counts as absent.

    Raises:
        OSError: when a file cannot be read at all.
    """
    card, text = _card(files)
    declared = card or {}
    model = _object(files, "config.json")
    adapter = _object(files, "adapter_config.json")
    config = _config(model, adapter, _object(files, "tokenizer_config.json"))
    info = _transformers_info(model)
    library = _text(declared.get("library_name")) or _library(files, info)
    pipeline_tag = _text(declared.get("pipeline_tag")) or (info or {}).get("pipeline_tag")
    bases = dict.fromkeys(filter(_MODEL_ID.fullmatch, strings(declared.get("base_model"))))
    formats = {PurePosixPath(path).suffix for path in files}
    quantization = (config or {}).get("quantization_config") or {}
    return Metadata(
        card_data=card,
        config=config,
        library_name=library,
        pipeline_tag=pipeline_tag,
        base_models=tuple(bases),
        relation=_relation(declared, files, library, len(bases), bool(quantization)),
        leading_tags=tuple(
            tag
            for tag in (
                library,
                *(tag for suffix, tag in _FORMAT_TAGS.items() if suffix in formats),
                (model or {}).get("model_type"),
                pipeline_tag,
                *strings(declared.get("tags")),
                *strings(declared.get("language")),
                *(f"dataset:{name}" for name in strings(declared.get("datasets"))),
                *(f"arxiv:{paper}" for paper in _ARXIV.findall(text)),
            )
            if isinstance(tag, str) and tag
        ),
        trailing_tags=(
            *(f"license:{name}" for name in strings(declared.get("license"))),
            *(["model-index"] if declared.get("model-index") else []),
            *strings(quantization.get("quant_method")),
            "region:us",
        ),
        transformers_info=info,
        safetensors=_parameters(files),
    )


def _relation(
    card: Mapping[str, Any],
    files: Mapping[str, StoredFile],
    library: str | None,
    bases: int,
    quantized: bool,
) -> str:
    """The card's relation first; then an adapter at the root, several bases, quantized weights.

    Adapters only in subfolders leave a repository tagged as a finetune, as on the Hub.
    """
    if (said := card.get("base_model_relation")) in tuple(Relation):
        return str(said)
    if "adapter_config.json" in files or library == "peft":
        return Relation.ADAPTER
    if bases > 1:
        return Relation.MERGE
    if quantized or any(path.endswith(".gguf") for path in files):
        return Relation.QUANTIZED
    return Relation.FINETUNE


def _library(files: Mapping[str, StoredFile], info: object) -> str | None:
    found = (library for name, library in _LIBRARY_FILES.items() if name in files)
    return next(found, "transformers" if info is not None else None)


def _config(
    model: dict[str, Any] | None, adapter: dict[str, Any] | None, tokenizer: dict[str, Any] | None
) -> dict[str, Any] | None:
    config: dict[str, Any] = {}
    if model is not None:
        config |= {key: model[key] for key in ("architectures", "model_type") if key in model}
        quantization = model.get("quantization_config")
        if isinstance(quantization, dict):
            kept = ("quant_method", "bits", "load_in_4bit", "load_in_8bit")
            config["quantization_config"] = {k: quantization[k] for k in kept if k in quantization}
    if tokenizer is not None:
        config["tokenizer_config"] = {
            key: value.get("content") if isinstance(value, dict) else value
            for key, value in tokenizer.items()
            if (key.endswith("_token") and isinstance(value, str | dict)) or key == "chat_template"
        }
    if adapter is not None:
        config["peft"] = {
            key: adapter[key] for key in ("base_model_name_or_path", "task_type") if key in adapter
        }
    return config or None


def _transformers_info(model: dict[str, Any] | None) -> dict[str, str] | None:
    if model is None or not (model.get("model_type") or model.get("architectures")):
        return None
    architecture = next(iter(strings(model.get("architectures"))), "")
    for ending, (auto_model, task) in _TASKS.items():
        if architecture.endswith(ending):
            return {"auto_model": auto_model, "pipeline_tag": task, "processor": "AutoTokenizer"}
    return {"auto_model": "AutoModel"}


def _parameters(files: Mapping[str, StoredFile]) -> dict[str, Any] | None:
    """Parameter counts from the safetensors headers of `model*.safetensors` at the root."""
    counts: Counter[str] = Counter()
    for path, file in files.items():
        if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", path):
            counts.update(_header_counts(file))
    return {"parameters": dict(counts), "total": counts.total()} if counts else None


def _header_counts(file: StoredFile) -> Counter[str]:
    counts: Counter[str] = Counter()
    try:
        with file.place.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= _HEADER_BYTES else {}
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for dimension in tensor["shape"]:
                    size *= int(dimension)
                counts[str(tensor["dtype"])] += size
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        logger.info("no parameter counts, not a safetensors file: %s", file.place)
        return Counter()
    return counts


def _card(files: Mapping[str, StoredFile]) -> tuple[dict[str, Any] | None, str]:
    text = _read(files, "README.md")
    if text is None:
        return None, ""
    try:
        return front_matter(text)
    except UnreadableYAMLError as error:
        logger.warning("card without metadata: %s: %s", files["README.md"].place, error)
        return None, text


def _object(files: Mapping[str, StoredFile], name: str) -> dict[str, Any] | None:
    text = _read(files, name)
    if text is None:
        return None
    try:
        value = read_json(text)
    except ValueError as error:
        logger.warning("ignored, not JSON: %s: %s", files[name].place, error)
        return None
    return value if isinstance(value, dict) else None


def _read(files: Mapping[str, StoredFile], name: str) -> str | None:
    file = files.get(name)
    if file is None or file.size > _TEXT_BYTES:
        return None
    return file.place.read_text(encoding="utf-8", errors="replace")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
