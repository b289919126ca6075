"""Which of a repository's files are an adapter's, and which a whole model's weights."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

CONFIG: Final = "adapter_config.json"

_ADAPTER_WEIGHTS = re.compile(r"adapter_model(-\d+-of-\d+)?\.(safetensors|bin)")
_MODEL_WEIGHTS = re.compile(r"(?:model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def adapters_in(files: Iterable[str], *, checkpoints: bool = False) -> dict[str, list[str]]:
    """The adapters of a repository: subfolder ("" for the root) → weight files, perhaps none.

    A folder with adapter_config.json or adapter_model.* is an adapter. The trainer's
    intermediate states (`checkpoint-<step>`) count only where no other folder holds weights, and
    of the states of one training only the last one then: the others are the same adapter, earlier.

    Args:
        files: paths inside the repository.
        checkpoints: list every intermediate state as well.
    """
    found: dict[str, list[str]] = {}
    for path in map(PurePosixPath, files):
        weights = _ADAPTER_WEIGHTS.fullmatch(path.name)
        if weights or path.name == CONFIG:
            folder = path.parent.as_posix()
            held = found.setdefault("" if folder == "." else folder, [])
            if weights:
                held.append(path.as_posix())
    found = {folder: _preferred(found[folder], _ADAPTER_WEIGHTS) for folder in sorted(found)}
    if checkpoints:
        return found
    finished = {folder: held for folder, held in found.items() if _step(folder) is None}
    if any(finished.values()):
        return finished
    return _last_steps(found) or finished


def model_weights(files: Iterable[str]) -> list[str]:
    """The weight files of a whole model at the root of a repository, safetensors before bin."""
    return _preferred([path for path in files if "/" not in path], _MODEL_WEIGHTS)


def has_model_weights(files: Iterable[str]) -> bool:
    """Whether a repository can be loaded as a base: weights that are not GGUF alone."""
    return any(
        "/" not in path
        and path.endswith((".safetensors", ".bin"))
        and not path.startswith(("adapter_", "training_args"))
        for path in files
    )


def _preferred(files: list[str], pattern: re.Pattern[str]) -> list[str]:
    """Of weights kept in several forms one: safetensors before bin, one file before shards."""
    for suffix in (".safetensors", ".bin"):
        held = sorted(
            path
            for path in files
            if path.endswith(suffix) and pattern.fullmatch(PurePosixPath(path).name)
        )
        whole = [path for path in held if not _is_shard(path, pattern)]
        if held:
            return whole or held
    return []


def _is_shard(path: str, pattern: re.Pattern[str]) -> bool:
    match = pattern.fullmatch(PurePosixPath(path).name)
    return match is not None and match[1] is not None


def _step(folder: str) -> int | None:
    """The training step of an intermediate state's folder."""
    steps = [match for part in folder.split("/") if (match := _CHECKPOINT.fullmatch(part))]
    return int(steps[-1][1]) if steps else None


def _last_steps(found: dict[str, list[str]]) -> dict[str, list[str]]:
    last: dict[str, tuple[int, str]] = {}
    for folder, held in found.items():
        step = _step(folder)
        if step is not None and held:
            training = _CHECKPOINT.sub("", folder)
            last[training] = max(last.get(training, (-1, "")), (step, folder))
    return {folder: found[folder] for _, folder in sorted(last.values())}
