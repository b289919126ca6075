"""All weights of a model in one or several files, read tensor by tensor wherever they lie."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Final

import torch

from hubdelta.crawler.hub import Hub
from hubdelta.crawler.remote_ranges import RemoteRanges
from hubdelta.crawler.safetensors_header import Header
from hubdelta.indexer.streamed.shards import SafetensorsShard, Shard, Stored, local_shard
from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.keys import AdapterKey

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Checkpoint:
    """The tensors of a model; its methods are safe in threads.

    Args:
        shards: its files; of a name that several hold, the last is read.
        remote: those of them that come over the network.

    Attributes:
        tensors: all that there are, by name.
    """

    def __init__(self, shards: Sequence[Shard], remote: Sequence[RemoteRanges] = ()) -> None:
        self._shards = {name: shard for shard in shards for name in shard.tensors}
        self._remote = tuple(remote)
        self.tensors: dict[str, Stored] = {
            name: shard.tensors[name] for name, shard in self._shards.items()
        }

    @property
    def needed_bytes(self) -> int:
        """What was read so far of files that come over the network."""
        return sum(source.asked for source in self._remote)

    @property
    def fetched_bytes(self) -> int:
        """What came over the network so far."""
        return sum(source.fetched for source in self._remote)

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some tensors as they are stored, each in memory of its own on the CPU.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        tensors: dict[str, torch.Tensor] = {}
        for shard in dict.fromkeys(self._shards[name] for name in names):
            tensors |= shard.read([name for name in names if self._shards[name] is shard])
        return tensors

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of a matrix as they are stored, [rows, …] in the order given.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        return self._shards[name].read_rows(name, rows)


def open_local(files: Sequence[Path]) -> Checkpoint:
    """A checkpoint of files on disk, safetensors or pickles.

    Raises:
        AdapterError: corrupt, unsafe_format (a pickle that holds more than tensors) or
            unsupported_adapter.
    """
    return Checkpoint([local_shard(file) for file in files])


def open_remote(
    hub: Hub,
    key: AdapterKey,
    headers: Mapping[str, Header],
    base_folder: Path,
    *,
    connections: int = 8,
) -> Checkpoint:
    """A checkpoint of safetensors files on the Hub, of which only what is read is fetched.

    A file that is the base's to the last byte, by its hash, is read from the base's folder.

    Args:
        hub: where from.
        key: whose files, and the commit.
        headers: of all its files by path, as `weight_header` reads them.
        base_folder: the base's, with its weights.
        connections: requests at once.

    Raises:
        AdapterError: corrupt or unsupported_adapter.
    """
    shards: list[Shard] = []
    remote = []
    for file, header in headers.items():
        if copy := _copy_of(header, base_folder):
            shards.append(local_shard(copy))
        else:
            source = RemoteRanges(hub, key, file, header.file_bytes, connections)
            shards.append(SafetensorsShard(file, header, source.read))
            remote.append(source)
    return Checkpoint(shards, remote)


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a transformers folder, in the order in which transformers looks for them.

    Raises:
        HubdeltaError: there are none, or the list of them cannot be read.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return [folder / name]
        if index.exists():
            try:
                shards = set(json.loads(index.read_bytes())["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
                raise HubdeltaError(f"{index} cannot be read: {error}") from error
            return [folder / shard for shard in sorted(shards)]
    raise HubdeltaError(f"{folder} holds no weights")


def _copy_of(header: Header, folder: Path) -> Path | None:
    """A file in the folder with the content of a file on the Hub."""
    if header.hash is None or not _SHA256.fullmatch(header.hash):
        return None
    for path in folder.glob("*.safetensors"):
        blob = path.resolve()  # the cache of huggingface_hub keeps LFS files under their hashes
        status = blob.stat()
        if status.st_size != header.file_bytes:
            continue
        named = _SHA256.fullmatch(blob.name)
        if header.hash == (blob.name if named else _sha256(blob, status.st_mtime_ns)):
            return path
    return None


@lru_cache(maxsize=1024)
def _sha256(path: Path, changed_ns: int) -> str:
    """Hash of a file that was last changed at this time."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
