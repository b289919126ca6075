"""Which tensors a torch.save file holds, and where: found without unpickling or reading them.

Two formats: a zip archive of a pickle and a record for each storage (torch 1.6 and later), and
pickles one after another, followed by the storages (before). torch/serialization.py writes both.
"""

import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from hubdelta.crawler.foreign_content import foreign_content
from hubdelta.indexer.adapters.local_files import open_file
from hubdelta.indexer.adapters.pickle_program import (
    BadPickleError,
    Call,
    Global,
    Persistent,
    UnusualPickleError,
    in_words,
    read_pickle,
)
from hubdelta.schemas.errors import AdapterError, Reason

_ZIP: Final = b"PK\x03\x04"
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_LONGEST_PICKLE: Final = 8 << 20  # bytes; a tensor takes about 200
_MOST_TIMES: Final = 2
_SPARE: Final = 16 << 20  # bytes
"""Tensors may take so many times the file's size, plus this much, since they may share storages."""

_MALFORMED: Final = (
    *(ValueError, LookupError, TypeError, AttributeError),  # from malformed values
    *(OSError, NotImplementedError),  # from zipfile
)

_STORAGES: Final = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class StridedTensor:
    """A tensor in a file, as a view of its bytes.

    Attributes:
        dtype: of its elements.
        shape: its dimensions.
        strides: from one element to the next in each dimension, in elements.
        start: where its first element is in the file, in bytes.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int

    @property
    def span_bytes(self) -> int:
        """Bytes from its first element to the end of its last one."""
        if 0 in self.shape:
            return 0
        steps = ((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        return (sum(steps) + 1) * self.dtype.itemsize

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements are adjacent, in order."""
        return self.span_bytes == math.prod(self.shape) * self.dtype.itemsize and all(
            step == math.prod(self.shape[place + 1 :])
            for place, (size, step) in enumerate(zip(self.shape, self.strides, strict=True))
            if size > 1
        )


@dataclass(frozen=True)
class _Storage:
    """Bytes of the file that tensors are views of."""

    dtype: torch.dtype
    start: int
    length: int


def read_contents(path: Path) -> dict[str, StridedTensor]:
    """The tensors of a file by name; none is outside the file, or much larger than it.

    Raises:
        AdapterError: corrupt, or unsafe_format (it holds more than tensors).
    """
    with open_file(path) as file:
        file_bytes = os.fstat(file.fileno()).st_size
        try:
            start = file.read(512)
            if what := foreign_content(start):
                raise AdapterError(Reason.CORRUPT, f"{path.name} {what}")
            read = _read_zip if start.startswith(_ZIP) else _read_legacy
            value, storages = read(file)
            tensors = _tensors_of(value, storages)
        except UnusualPickleError as error:
            raise _unsafe(path, f"is a pickle that holds more than tensors ({error})") from error
        except (BadPickleError, zipfile.BadZipFile, struct.error) as error:
            raise AdapterError(
                Reason.CORRUPT, f"{path.name} is truncated, or not a file of torch.save: {error}"
            ) from error
        except _MALFORMED as error:
            raise AdapterError(Reason.CORRUPT, f"{path.name} is not readable: {error}") from error
    needed = sum(math.prod(t.shape) * t.dtype.itemsize for t in tensors.values())
    if needed > _MOST_TIMES * file_bytes + _SPARE:
        raise AdapterError(
            Reason.CORRUPT,
            f"{path.name} has {file_bytes / 1e6:,.1f} MB, but its tensors {needed / 1e6:,.3g} MB: "
            "they are expanded views; its author has to save them with contiguous() or as "
            "safetensors",
        )
    return tensors


def _unsafe(path: Path, what: str) -> AdapterError:
    return AdapterError(
        Reason.UNSAFE_FORMAT,
        f"{path.name} {what} and was not loaded: ask its author for safetensors",
    )


Storages = Mapping[str, tuple[int, int]]
"""Key of a storage → its first byte in the file, and its length."""


def _read_zip(file: BinaryIO) -> tuple[Any, Storages]:
    """The pickle of a zip archive, and its records."""
    file_bytes = os.fstat(file.fileno()).st_size
    archive = zipfile.ZipFile(file)
    entries = archive.infolist()
    root = entries[0].filename.partition("/")[0] if entries else ""
    records = {entry.filename.removeprefix(f"{root}/"): entry for entry in entries}
    if "constants.pkl" in records:
        raise UnusualPickleError("TorchScript")
    for name, entry in records.items():
        used = name in {"data.pkl", "byteorder"} or name.startswith("data/")
        if used and (entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1):
            raise ValueError(f"record {name} is compressed, as torch.save never writes it")
    if records["data.pkl"].file_size > _LONGEST_PICKLE:
        raise ValueError("its pickle is too long for a dictionary of tensors")
    if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
        raise ValueError("it comes from a machine with a different byte order")
    storages = {}
    for name, entry in records.items():
        if name.startswith("data/"):
            file.seek(entry.header_offset)
            signature, name_bytes, extra_bytes = struct.unpack("<4s22xHH", file.read(30))
            start = entry.header_offset + 30 + name_bytes + extra_bytes
            if signature != _ZIP or start + entry.file_size > file_bytes:
                raise zipfile.BadZipFile(f"record {name} lies outside of the file")
            storages[name.removeprefix("data/")] = (start, entry.file_size)
    return read_pickle(BytesIO(archive.read(records["data.pkl"]))), storages


def _read_legacy(file: BinaryIO) -> tuple[Any, Storages]:
    """The fourth of five pickles, and the storages after the last, each preceded by its length."""
    file_bytes = os.fstat(file.fileno()).st_size
    file.seek(0)
    start = BytesIO(file.read(_LONGEST_PICKLE))
    magic = read_pickle(start)
    if magic != _LEGACY_MAGIC:
        raise UnusualPickleError("torch.save did not write it")
    _, system, value, keys = (read_pickle(start) for _ in range(4))
    if not system.get("little_endian", True):
        raise ValueError("it comes from a machine with a different byte order")
    sizes = _element_sizes(value)
    storages, place = {}, start.tell()
    for key in keys:
        file.seek(place)
        (count,) = struct.unpack("<q", file.read(8))
        length = count * sizes.get(key, 1)
        if count < 0 or place + 8 + length > file_bytes:
            raise BadPickleError(f"storage {in_words(key)} extends past the end of the file")
        storages[key] = (place + 8, length)
        place += 8 + length
    return value, storages


def _element_sizes(value: Any) -> dict[str, int]:
    """Bytes per element of each storage that tensors are views of."""
    found = {}
    for call in _calls(value).values():
        _, kind, key, *_ = _note(call.arguments[0])
        found[key] = _storage_dtype(kind).itemsize
    return found


_PARAMETERS: Final = frozenset(
    {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
)
_TENSORS: Final = {
    "torch._utils._rebuild_tensor": 4,
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
}
"""Functions that make a tensor → the number of arguments before metadata."""


def _tensors_of(value: Any, storages: Storages) -> dict[str, StridedTensor]:
    return {name: _tensor(name, call, storages) for name, call in _calls(value).items()}


def _calls(value: Any) -> dict[str, Call]:
    """The calls that build the tensors of a dictionary, by name."""
    if not isinstance(value, dict):
        raise UnusualPickleError("it is not a dictionary")
    calls = {}
    for name, call in value.items():
        while isinstance(call, Call) and call.function in _PARAMETERS and call.arguments:
            call = call.arguments[0]
        if not isinstance(call, Call) or call.function not in _TENSORS:
            what = type(call).__name__ if isinstance(call, str) else in_words(call)
            raise UnusualPickleError(f"{name[:80]} is a {what}")
        calls[name] = call
    return calls


def _tensor(name: str, call: Call, storages: Storages) -> StridedTensor:
    plain = _TENSORS[call.function]
    if any(call.arguments[plain:]):
        raise UnusualPickleError(f"{name[:80]} is a conjugate or negative view")
    persistent, offset, shape, strides = call.arguments[:4]
    storage = _storage(persistent, storages)
    dtype = _dtype(call.arguments[6]) if plain == 7 else storage.dtype
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"tensor {name} has no usable shape and strides")
    tensor = StridedTensor(dtype, shape, strides, storage.start + offset * dtype.itemsize)
    if 0 not in shape and offset * dtype.itemsize + tensor.span_bytes > storage.length:
        raise ValueError(f"tensor {name} of shape {list(shape)} is larger than its storage")
    return tensor


def _note(note: Any) -> tuple[Any, ...]:
    """A pickle's description of a storage."""
    if not isinstance(note, Persistent) or note.content[0] != "storage":
        raise ValueError("a tensor without a storage")
    content: tuple[Any, ...] = note.content
    return content


def _storage(note: Any, storages: Storages) -> _Storage:
    """The storage, or part of one, that a pickle's note refers to."""
    _, kind, key, _, _, *views = _note(note)
    dtype = _storage_dtype(kind)
    if key not in storages:
        raise ValueError(f"storage {in_words(key)} is missing")
    start, length = storages[key]
    if views and views[0] is not None:
        _, offset, size = views[0]
        if not 0 <= offset <= offset + size <= length // dtype.itemsize:
            raise ValueError("a view that is larger than its storage")
        start, length = start + offset * dtype.itemsize, size * dtype.itemsize
    return _Storage(dtype, start, length)


def _storage_dtype(kind: Any) -> torch.dtype:
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
    if name not in _STORAGES:
        raise UnusualPickleError(f"a storage {in_words(kind)}")
    return _STORAGES[name]


def _dtype(note: Any) -> torch.dtype:
    name = note.name.removeprefix("torch.") if isinstance(note, Global) else ""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise UnusualPickleError(f"a type {in_words(note)}")
    return found
