"""The header of a safetensors file: what is inside, read from the file's first bytes.

The format: https://huggingface.co/docs/safetensors/index#format
"""

import json
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = 8  # bytes, the header's length as a little-endian number
_LONGEST: Final = 25_000_000  # bytes, huggingface_hub's own limit


class BadHeaderError(ValueError):
    """Not a safetensors header, or not this file's; the text says why."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file.

    Attributes:
        dtype: as the format spells it: F32, BF16, I64, …
        shape: its dimensions.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        tensors: by name.
        header_bytes: its length, with the 8 bytes before it that give it.
        data_bytes: length of all tensors' data.
        file_bytes: length of the file, as the Hub states it.
    """

    tensors: dict[str, Tensor]
    header_bytes: int
    data_bytes: int
    file_bytes: int


def header_length(start: bytes) -> int:
    """Length of a header with its prefix, in bytes.

    Args:
        start: the file's first bytes.

    Raises:
        BadHeaderError: too short a file, or too long a header.
    """
    if len(start) < _PREFIX:
        raise BadHeaderError(f"not safetensors: only {len(start)} bytes")
    length = int.from_bytes(start[:_PREFIX], "little")
    if length > _LONGEST:
        raise BadHeaderError(f"not safetensors: a header of {length} bytes")
    return _PREFIX + length


def parse_header(start: bytes, file_bytes: int) -> Header:
    """Read a header.

    Args:
        start: the file's first bytes, at least its header.
        file_bytes: length of the file.

    Raises:
        BadHeaderError: no such header, or the file is shorter or longer than it says.
    """
    length = header_length(start)
    if len(start) < length:
        raise BadHeaderError(f"truncated: {file_bytes} bytes are fewer than its header's {length}")
    try:
        raw = json.loads(start[_PREFIX:length])
        tensors = {
            name: Tensor(str(spec["dtype"]), tuple(map(int, spec["shape"])))
            for name, spec in raw.items()
            if name != "__metadata__"
        }
        ends = [int(spec["data_offsets"][1]) for name, spec in raw.items() if name in tensors]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadHeaderError("not safetensors: its header cannot be read") from error
    data_bytes = max(ends, default=0)
    if length + data_bytes != file_bytes:
        raise BadHeaderError(
            f"truncated or overlong: {file_bytes} bytes where its header says {length + data_bytes}"
        )
    return Header(tensors, length, data_bytes, file_bytes)
