"""Which file each tensor of a sharded checkpoint is read from, with or without an index file.

The format is that of transformers' `save_pretrained`: an object whose `weight_map` names a file for
each tensor. transformers loads every named file in order of name; if several hold a tensor, the
last one wins (transformers 5, modeling_utils, _load_pretrained_model).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, Shard
from hubdelta.crawler.entry import is_usable_path
from hubdelta.schemas.errors import AdapterError, Reason

LONGEST_INDEX: Final = 32 << 20  # bytes; one of 90,000 tensors has 9 million
_MOST_FILES: Final = 4096  # real checkpoints have a few hundred


@dataclass(frozen=True)
class WeightIndex:
    """What an index file says.

    Attributes:
        path: of the index file.
        files: all the files it names, sorted, as paths like its own.
        file_of: tensor → file.
    """

    path: str
    files: tuple[str, ...]
    file_of: Mapping[str, str]


def missing_shard(what: object) -> AdapterError:
    """The failure of a checkpoint with a missing file."""
    return AdapterError(
        Reason.NO_WEIGHTS,
        f"a shard is missing: {what}; its author's upload may have been cut off, and has to be "
        "completed",
    )


def parse_index(path: str, text: bytes) -> WeightIndex:
    """Read an index file.

    Raises:
        AdapterError: corrupt: it cannot be read, or names something other than a weight file
            beside it.
    """

    def corrupt(why: str) -> AdapterError:
        return AdapterError(Reason.CORRUPT, f"{path} {why}")

    try:
        content = json.loads(text)
        weight_map = content["weight_map"]
        named = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise corrupt("is not an index of weight files: its weight_map cannot be read") from error
    suffix = PurePosixPath(path.removesuffix(INDEX_SUFFIX)).suffix
    for file in sorted(set(named.values())):
        if not is_usable_path(file) or PurePosixPath(file).suffix != suffix:
            raise corrupt(f"names {file[:200]!r}, which is not a {suffix} file of this folder")
    if not named:
        raise corrupt("names no tensor")
    folder = PurePosixPath(path).parent
    file_of = {name: str(folder / file) for name, file in named.items()}
    files = tuple(sorted(set(file_of.values())))
    if len(files) > _MOST_FILES:
        raise corrupt(f"names {len(files)} files, more than {_MOST_FILES}")
    return WeightIndex(path, files, file_of)


def check_complete(files: Sequence[str]) -> None:
    """Check by name that shards without an index are complete: N of M, all of one set.

    Raises:
        AdapterError: corrupt (several sets) or no_weights (one is missing), naming the files.
    """
    shards = {file: shard for file in files if (shard := Shard.of(file))}
    sets = {(shard.stem, shard.total): file for file, shard in shards.items()}
    if len(sets) > 1:
        first, second, *_ = sorted(sets.values())
        raise AdapterError(
            Reason.CORRUPT,
            f"{first} and {second} are shards of different sets, and no index file says which to "
            "read: its author has to delete the old ones",
        )
    for (_, count), file in sets.items():
        numbers = {shard.number for shard in shards.values()}
        start = 0 if 0 in numbers else 1
        for number in range(start, start + min(count, _MOST_FILES)):
            if number not in numbers:
                raise missing_shard(f"{file} is one of {count}, and number {number} is absent")


def owners(held: Mapping[str, Iterable[str]], index: WeightIndex | None) -> dict[str, str]:
    """The file that each tensor is read from.

    Args:
        held: file → names of the tensors in it.
        index: the index file, if there is one.

    Raises:
        AdapterError: corrupt: two files disagree about a tensor; the message names both.
    """
    if len(held) == 1:
        ((file, names),) = held.items()
        return dict.fromkeys(names, file)
    holders: dict[str, list[str]] = {}
    for file in sorted(held):
        for name in held[file]:
            holders.setdefault(name, []).append(file)
    for name, files in holders.items():
        if len(files) == 1:
            continue
        if index is None:
            raise AdapterError(
                Reason.CORRUPT,
                f"{files[0]} and {files[1]} both hold tensor {name}, and no index file says which "
                "to read: its author has to delete the old one",
            )
        if index.file_of.get(name) != files[-1]:  # the last is what transformers reads
            raise AdapterError(
                Reason.CORRUPT,
                f"{files[0]} and {files[-1]} both hold tensor {name}, and {index.path} names "
                f"{index.file_of.get(name, 'neither')} where transformers reads {files[-1]}",
            )
    return {name: files[-1] for name, files in holders.items()}
