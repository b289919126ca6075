"""Which of a repository's files belong to an adapter, and which are a whole model's weights.

Judged by names alone, since a listing shows no contents. Shards with an index file are represented
by it, and it is read together with the weights (`weight_index`).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

CONFIG: Final = "adapter_config.json"
MODEL_CONFIG: Final = "config.json"
INDEX_SUFFIX: Final = ".index.json"

_ADAPTER_FORMS: Final = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
"""What PEFT looks for, in its order; the last is what MLX writes."""

_MODEL_FORMS: Final = ("model.safetensors", "pytorch_model.bin")
"""What transformers looks for, in its order (modeling_utils, _get_resolved_checkpoint_files)."""

_SHARD = re.compile(
    r"(?P<stem>.+?)(?:\.safetensors|\.bin)?-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)"
)
_CHECKPOINT = re.compile(r"checkpoint[-_]?(\d+)")

_OTHER_FORMATS: Final = {
    ".gguf": "GGUF",
    ".ggml": "GGML",
    ".npz": "MLX .npz",
    ".onnx": "ONNX",
    ".pth": ".pth",
    ".pt": ".pt",
    ".ckpt": ".ckpt",
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".tflite": "TFLite",
    ".mlmodel": "Core ML",
    ".exl2": "EXL2",
    ".nemo": "NeMo",
    ".llamafile": "llamafile",
}
"""Suffixes of weights that neither transformers nor PEFT reads, and names of their formats."""

_QUANTIZED = re.compile(
    r".*(gptq|awq|(?<!\d)[2-8]-?bit|int[48]|nf4|fp[48]).*\.(safetensors|bin|pt)", re.IGNORECASE
)
"""Names that older quantizers give to weights, which transformers does not look for."""

_NO_WEIGHTS = re.compile(r"training_args|optimizer|scheduler|rng_state|scaler|trainer_state")
"""Files of these formats that hold something other than weights."""


def adapters_in(files: Iterable[str], *, checkpoints: bool = False) -> dict[str, list[str]]:
    """The adapters of a repository: subfolder ("" for the root) → weight files, perhaps none.

    A folder with adapter_config.json or adapter_model.* is an adapter, unless its only weights are
    a whole model's: then the config is left over from before the adapter was merged. The trainer's
    intermediate checkpoints (`checkpoint-<step>`) count only if no other folder holds weights, and
    then only the last of each training run: the others are earlier states of the same adapter.

    Args:
        files: paths inside the repository.
        checkpoints: list every intermediate checkpoint as well.
    """
    found = {}
    for folder, names in _by_folder(files).items():
        weights = _weights(names, _ADAPTER_FORMS)
        if weights or (CONFIG in names and not _weights(names, _MODEL_FORMS)):
            found[folder] = [_path(folder, name) for name in weights]
    return found if checkpoints else _finished(found)


def models_in(files: Iterable[str], *, checkpoints: bool = False) -> dict[str, list[str]]:
    """The whole models of a repository: folder ("" for the root) → weight files.

    A model at the root is the repository's only one; others are its parts or checkpoints. Without
    it, each folder with a config.json and weights is a model; intermediate checkpoints are treated
    as in `adapters_in`.

    Args:
        files: paths inside the repository.
        checkpoints: list every folder with a model, even if there is one at the root.
    """
    found = {}
    for folder, names in _by_folder(files).items():
        weights = _weights(names, _MODEL_FORMS)
        if weights and (not folder or MODEL_CONFIG in names):
            found[folder] = [_path(folder, name) for name in weights]
    if checkpoints:
        return found
    return {"": found[""]} if "" in found else _finished(found)


def model_weights(files: Iterable[str]) -> list[str]:
    """The weight files of a whole model at the root of a repository, safetensors before bin."""
    return models_in(files).get("", [])


def has_model_weights(files: Iterable[str]) -> bool:
    """Whether a repository can be loaded as a base: it has weights other than GGUF."""
    return any(
        "/" not in path
        and path.endswith((".safetensors", ".bin"))
        and not path.startswith(("adapter_", "training_args"))
        for path in files
    )


def unreadable_weights(files: Iterable[str]) -> list[str]:
    """Files with weights in formats that neither transformers nor PEFT reads."""
    return sorted(
        path for path in files if unreadable_format(path) and not _NO_WEIGHTS.search(path)
    )


def unreadable_format(file: str) -> str | None:
    """The name of a weight file's format, if neither transformers nor PEFT reads it."""
    path = PurePosixPath(file)
    if _QUANTIZED.fullmatch(path.name):
        return "quantized"
    return _OTHER_FORMATS.get(path.suffix.lower())


class Shard(NamedTuple):
    """What a shard's name says: its number, the total, and the set it belongs to."""

    stem: str
    number: int
    total: int

    @classmethod
    def of(cls, file: str) -> "Shard | None":
        """Parse a name; None if it is not a shard's."""
        match = _SHARD.fullmatch(PurePosixPath(file).name)
        return match and cls(match["stem"], int(match["number"]), int(match["count"]))


def index_of(shard: str) -> str | None:
    """The path where a shard's index file would be; None if the name is not a shard's."""
    match = _SHARD.fullmatch(PurePosixPath(shard).name)
    name = match and f"{match['stem']}{match['suffix']}{INDEX_SUFFIX}"
    return str(PurePosixPath(shard).with_name(name)) if name else None


def steps_in(folders: Iterable[str]) -> list[int]:
    """The training steps of the intermediate checkpoints among folders, ascending."""
    return sorted(step for step in map(_step, folders) if step is not None)


def _by_folder(files: Iterable[str]) -> dict[str, set[str]]:
    """File names by folder ("" is the root), folders sorted."""
    found: dict[str, set[str]] = {}
    for path in map(PurePosixPath, files):
        folder = path.parent.as_posix()
        found.setdefault("" if folder == "." else folder, set()).add(path.name)
    return dict(sorted(found.items()))


def _weights(names: set[str], forms: Iterable[str]) -> list[str]:
    """The weight files of the first form that is present.

    Each form is one file, or shards with an index file, or shards without one.
    """
    for form in forms:
        if form in names:
            return [form]
        if (index := form + INDEX_SUFFIX) in names:
            return [index]
        stem, suffix = PurePosixPath(form).stem, PurePosixPath(form).suffix
        if shards := sorted(
            name
            for name in names
            if name.endswith(suffix) and (shard := Shard.of(name)) and shard.stem == stem
        ):
            return shards
    return []


def _path(folder: str, name: str) -> str:
    return str(PurePosixPath(folder) / name)


def _finished(found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Without intermediate checkpoints; if nothing else is left, the last of each training run."""
    finished = {folder: held for folder, held in found.items() if _step(folder) is None}
    if any(finished.values()):
        return finished
    return _last_steps(found) or finished


def _step(folder: str) -> int | None:
    """The training step of an intermediate checkpoint's folder."""
    steps = [match for part in folder.split("/") if (match := _CHECKPOINT.fullmatch(part))]
    return int(steps[-1][1]) if steps else None


def _last_steps(found: Mapping[str, list[str]]) -> dict[str, list[str]]:
    last: dict[str, tuple[int, str]] = {}
    for folder, held in found.items():
        step = _step(folder)
        if step is not None and held:
            training = _CHECKPOINT.sub("", folder)
            last[training] = max(last.get(training, (-1, "")), (step, folder))
    return {folder: found[folder] for _, folder in sorted(last.values())}
