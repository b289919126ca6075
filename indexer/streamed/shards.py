"""One weight file of a checkpoint, of which single tensors, or rows of them, are read."""

import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from hubdelta.crawler.remote_ranges import Piece
from hubdelta.crawler.safetensors_header import (
    BadHeaderError,
    Header,
    Tensor,
    header_length,
    parse_header,
)
from hubdelta.indexer.memory import empty
from hubdelta.indexer.weights import load_pickle
from hubdelta.schemas.errors import AdapterError, Reason

_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """A tensor as a file holds it.

    Attributes:
        dtype: of its elements.
        shape: its dimensions.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Length of its data."""
        return math.prod(self.shape) * self.dtype.itemsize


class Shard(ABC):
    """A weight file; its methods are safe in threads.

    Attributes:
        tensors: what it holds, by name.
    """

    tensors: Mapping[str, Stored]

    @abstractmethod
    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some tensors, in memory of their own on the CPU.

        Raises:
            AdapterError: they cannot be read, and why.
        """

    @abstractmethod
    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of a matrix, in the order given.

        Raises:
            AdapterError: they cannot be read, and why.
        """


class SafetensorsShard(Shard):
    """A safetensors file, here or elsewhere.

    Args:
        file: its name, for messages.
        header: its header.
        read_pieces: fills buffers with what stands at offsets of the file.

    Raises:
        AdapterError: corrupt, or unsupported_adapter (of a type that torch does not have).
    """

    def __init__(
        self, file: str, header: Header, read_pieces: Callable[[Sequence[Piece]], None]
    ) -> None:
        self.tensors = {name: _stored(file, name, t) for name, t in header.tensors.items()}
        self._offsets = {name: header.header_bytes + t.start for name, t in header.tensors.items()}
        self._read_pieces = read_pieces

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """All of them in one go: what lies side by side is one read."""
        buffers = {name: empty([self.tensors[name].bytes], torch.uint8) for name in names}
        self._read_pieces([(self._offsets[name], _view(buffers[name])) for name in names])
        return {
            name: buffer.view(self.tensors[name].dtype).view(self.tensors[name].shape)
            for name, buffer in buffers.items()
        }

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Each row is a range of the file."""
        stored = self.tensors[name]
        row_bytes = stored.bytes // stored.shape[0]
        buffer = empty([len(rows), row_bytes], torch.uint8)
        pieces = [
            (self._offsets[name] + row * row_bytes, _view(target))
            for row, target in zip(rows, buffer, strict=True)
        ]
        self._read_pieces(pieces)
        return buffer.view(stored.dtype).view(len(rows), *stored.shape[1:])


class PickleShard(Shard):
    """A pickle as torch.save writes it; one older than torch 1.6 is held in memory as a whole.

    Raises:
        AdapterError: corrupt, or unsafe_format (it holds more than tensors).
    """

    def __init__(self, file: Path) -> None:
        self._tensors = load_pickle(file, mapped=zipfile.is_zipfile(file))
        self.tensors = {n: Stored(t.dtype, tuple(t.shape)) for n, t in self._tensors.items()}

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Copies: pages of the mapped file can be taken back by the system at any time."""
        copies = {name: empty(self.tensors[name].shape, self.tensors[name].dtype) for name in names}
        return {name: copy.copy_(self._tensors[name]) for name, copy in copies.items()}

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """A copy of these rows."""
        return self._tensors[name][list(rows)]


def local_shard(path: Path) -> Shard:
    """A weight file on disk.

    Raises:
        AdapterError: corrupt, unsafe_format or unsupported_adapter.
    """
    if path.suffix != ".safetensors":
        return PickleShard(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            start += file.read(header_length(start) - len(start))
        header = parse_header(start, path.stat().st_size)
    except BadHeaderError as error:
        raise AdapterError(Reason.CORRUPT, f"{path.name}: {error}") from error
    except OSError as error:
        raise AdapterError(Reason.CORRUPT, f"{path}: {error.strerror}") from error
    return SafetensorsShard(path.name, header, lambda pieces: _read_file(path, pieces))


def _read_file(path: Path, pieces: Sequence[Piece]) -> None:
    """Fill buffers from a file on disk.

    Not a map of the file: its pages would count as memory of this process until they are dropped.
    """
    try:
        with path.open("rb", buffering=0) as file:
            for offset, target in pieces:
                file.seek(offset)
                filled = 0
                while filled < len(target):
                    read = file.readinto(target[filled:])
                    if not read:
                        raise AdapterError(Reason.CORRUPT, f"{path.name} ends in a tensor")
                    filled += read
    except OSError as error:
        raise AdapterError(Reason.CORRUPT, f"{path}: {error.strerror}") from error


def _view(buffer: torch.Tensor) -> memoryview:
    return buffer.numpy().data


def _stored(file: str, name: str, tensor: Tensor) -> Stored:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER, f"{file}: tensor {name} is stored as {tensor.dtype}"
        )
    stored = Stored(dtype, tensor.shape)
    if stored.bytes != tensor.bytes:
        raise AdapterError(
            Reason.CORRUPT,
            f"{file}: tensor {name} has {tensor.bytes} bytes where its shape needs {stored.bytes}",
        )
    return stored
