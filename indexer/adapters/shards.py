"""One weight file of a checkpoint, from which single tensors, or rows of them, are read."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from hubdelta.crawler.remote_ranges import Piece
from hubdelta.crawler.safetensors_header import Header, Tensor
from hubdelta.indexer.adapters.local_files import open_file, read_header
from hubdelta.indexer.adapters.torch_file import StridedTensor, read_contents
from hubdelta.indexer.memory import empty
from hubdelta.schemas.errors import AdapterError, Reason

_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """A tensor as stored in a file.

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
    """A weight file; its methods are thread-safe.

    Attributes:
        tensors: what it holds, by name.
    """

    tensors: Mapping[str, Stored]

    @abstractmethod
    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some tensors, each in its own memory on the CPU.

        Raises:
            AdapterError: they cannot be read, and why.
        """

    @abstractmethod
    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of a matrix, in the order given.

        Raises:
            AdapterError: they cannot be read, and why.
        """


class FileShard(Shard):
    """A weight file, local or remote, from which ranges are read.

    Args:
        tensors: what it holds, by name.
        offsets: where the first element of each is in the file, in bytes.
        read_pieces: fills buffers from offsets of the file.
        strided: those that are not contiguous.
    """

    def __init__(
        self,
        tensors: Mapping[str, Stored],
        offsets: Mapping[str, int],
        read_pieces: Callable[[Sequence[Piece]], None],
        strided: Mapping[str, StridedTensor] | None = None,
    ) -> None:
        self.tensors = tensors
        self._offsets, self._read_pieces, self._strided = offsets, read_pieces, strided or {}

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """All of them at once: adjacent tensors share one read."""
        buffers = {name: empty([self._span_bytes(name)], torch.uint8) for name in names}
        self._read_pieces([(self._offsets[name], _view(buffers[name])) for name in names])
        return {name: self._shaped(name, buffer) for name, buffer in buffers.items()}

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Each row is a range of the file."""
        if name in self._strided:
            return self.read([name])[name][list(rows)]
        stored = self.tensors[name]
        row_bytes = stored.bytes // stored.shape[0]
        buffer = empty([len(rows), row_bytes], torch.uint8)
        pieces = [
            (self._offsets[name] + row * row_bytes, _view(target))
            for row, target in zip(rows, buffer, strict=True)
        ]
        self._read_pieces(pieces)
        return buffer.view(stored.dtype).view(len(rows), *stored.shape[1:])

    def _span_bytes(self, name: str) -> int:
        strided = self._strided.get(name)
        return strided.span_bytes if strided else self.tensors[name].bytes

    def _shaped(self, name: str, buffer: torch.Tensor) -> torch.Tensor:
        elements = buffer.view(self.tensors[name].dtype)
        if strided := self._strided.get(name):
            return elements.as_strided(strided.shape, strided.strides).contiguous()
        return elements.view(self.tensors[name].shape)


def safetensors_shard(
    file: str, header: Header, read_pieces: Callable[[Sequence[Piece]], None]
) -> FileShard:
    """A safetensors file, local or remote.

    Args:
        file: its name, for messages.
        header: its header.
        read_pieces: fills buffers from offsets of the file.

    Raises:
        AdapterError: corrupt, or unsupported_adapter (a type that torch does not have).
    """
    tensors = {name: _stored(file, name, t) for name, t in header.tensors.items()}
    offsets = {name: header.header_bytes + t.start for name, t in header.tensors.items()}
    return FileShard(tensors, offsets, read_pieces)


def pickle_shard(path: Path) -> FileShard:
    """A torch.save file on disk.

    Raises:
        AdapterError: corrupt, or unsafe_format (it holds more than tensors).
    """
    contents = read_contents(path)
    tensors = {name: Stored(t.dtype, t.shape) for name, t in contents.items()}
    offsets = {name: t.start for name, t in contents.items()}
    strided = {name: t for name, t in contents.items() if not t.is_contiguous}
    return FileShard(tensors, offsets, lambda pieces: _read_file(path, pieces), strided)


def local_shard(path: Path) -> FileShard:
    """A weight file on disk.

    Raises:
        AdapterError: corrupt, unsafe_format or unsupported_adapter.
    """
    if path.suffix != ".safetensors":
        return pickle_shard(path)
    header = read_header(path)
    return safetensors_shard(path.name, header, lambda pieces: _read_file(path, pieces))


def _read_file(path: Path, pieces: Sequence[Piece]) -> None:
    """Fill buffers from a file on disk.

    The file is not mapped: its pages would count as this process's memory until they are dropped.
    """
    try:
        with open_file(path) as file:
            for offset, target in pieces:
                file.seek(offset)
                filled = 0
                while filled < len(target):
                    read = file.readinto(target[filled:])
                    if not read:
                        raise AdapterError(
                            Reason.CORRUPT, f"{path.name} ends in a tensor: truncated"
                        )
                    filled += read
    except OSError as error:
        raise AdapterError(Reason.CORRUPT, f"{path}: {error.strerror}") from error


def _view(buffer: torch.Tensor) -> memoryview:
    return buffer.numpy().data


def _stored(file: str, name: str, tensor: Tensor) -> Stored:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"{file}: tensor {name} is stored as {tensor.dtype}, as only quantized weights are: "
            "embed the original",
        )
    stored = Stored(dtype, tensor.shape)
    if stored.bytes != tensor.bytes:
        raise AdapterError(
            Reason.CORRUPT,
            f"{file}: tensor {name} has {tensor.bytes} bytes where its shape needs {stored.bytes}",
        )
    return stored
