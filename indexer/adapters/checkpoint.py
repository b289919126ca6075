"""All weights of a model in one or several files, read by tensor from disk or from the Hub."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Final

import torch

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, model_weights
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.remote_ranges import RemoteRanges
from hubdelta.crawler.safetensors_header import Header
from hubdelta.crawler.weight_index import LONGEST_INDEX, WeightIndex, owners, parse_index
from hubdelta.indexer.adapters.local_files import read_file
from hubdelta.indexer.adapters.shards import Shard, Stored, local_shard, safetensors_shard
from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.keys import AdapterKey

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Checkpoint:
    """The tensors of a model; its methods are thread-safe.

    Args:
        shards: its files, by name.
        index: the index file that names them, if there is one.
        remote: the files among them that are read over the network.

    Raises:
        AdapterError: corrupt: files disagree about a tensor.

    Attributes:
        tensors: all of them, by name.
    """

    def __init__(
        self,
        shards: Mapping[str, Shard],
        index: WeightIndex | None = None,
        remote: Sequence[RemoteRanges] = (),
    ) -> None:
        file_of = owners({file: shard.tensors for file, shard in shards.items()}, index)
        self._shards = {name: shards[file] for name, file in file_of.items()}
        self._remote = tuple(remote)
        self.tensors: dict[str, Stored] = {
            name: shard.tensors[name] for name, shard in self._shards.items()
        }

    @property
    def needed_bytes(self) -> int:
        """Bytes read so far from remote files."""
        return sum(source.asked for source in self._remote)

    @property
    def fetched_bytes(self) -> int:
        """Bytes received over the network so far."""
        return sum(source.fetched for source in self._remote)

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some tensors as stored, each in its own memory on the CPU.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        tensors: dict[str, torch.Tensor] = {}
        for shard in dict.fromkeys(self._shards[name] for name in names):
            tensors |= shard.read([name for name in names if self._shards[name] is shard])
        return tensors

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of a matrix as stored, [rows, …] in the order given.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        return self._shards[name].read_rows(name, rows)


def open_local(files: Sequence[Path], index: WeightIndex | None = None) -> Checkpoint:
    """A checkpoint of files on disk, safetensors or torch.save files.

    Args:
        files: all of them.
        index: the index file that names them, in this order.

    Raises:
        AdapterError: corrupt, unsafe_format (a pickle that holds more than tensors) or
            unsupported_adapter.
    """
    names = index.files if index else [file.name for file in files]
    shards = zip(names, map(local_shard, files), strict=True)
    return Checkpoint(dict(shards), index)


def open_folder(folder: Path) -> Checkpoint:
    """The checkpoint that transformers finds in a folder.

    Raises:
        HubdeltaError: there is none, or it cannot be read.
    """
    files, index = _files_and_index(folder)
    return open_local(files, index)


def open_remote(
    hub: Hub,
    key: AdapterKey,
    headers: Mapping[str, Header],
    base_folder: Path,
    *,
    index: WeightIndex | None = None,
    connections: int = 8,
) -> Checkpoint:
    """A checkpoint of safetensors files on the Hub; only what is read is fetched.

    A file identical to the base's, by its hash, is read from the base's folder.

    Args:
        hub: where from.
        key: the repository and commit.
        headers: of all its files by path, as `weight_header` reads them.
        base_folder: the base's, with its weights.
        index: the index file that names the files, if there is one.
        connections: simultaneous requests.

    Raises:
        AdapterError: corrupt or unsupported_adapter.
    """
    shards: dict[str, Shard] = {}
    remote = []
    for file, header in headers.items():
        if copy := _copy_of(header, base_folder):
            shards[file] = local_shard(copy)
        else:
            source = RemoteRanges(hub, key, file, header.file_bytes, header.url, connections)
            shards[file] = safetensors_shard(file, header, source.read)
            remote.append(source)
    return Checkpoint(shards, index, remote)


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers reads from a folder.

    Raises:
        HubdeltaError: there are none, or the list of them cannot be read.
    """
    return _files_and_index(folder)[0]


def _files_and_index(folder: Path) -> tuple[list[Path], WeightIndex | None]:
    names = model_weights(path.name for path in folder.iterdir())
    if not names:
        raise HubdeltaError(f"{folder} holds no weights")
    if not names[0].endswith(INDEX_SUFFIX):
        return [folder / name for name in names], None
    index = parse_index(names[0], read_file(folder / names[0], LONGEST_INDEX))
    return [folder / file for file in index.files], index


def _copy_of(header: Header, folder: Path) -> Path | None:
    """A file in the folder with the same content as a file on the Hub."""
    if header.hash is None or not _SHA256.fullmatch(header.hash):
        return None
    for path in folder.glob("*.safetensors"):
        blob = path.resolve()  # huggingface_hub's cache stores LFS files under their hashes
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
