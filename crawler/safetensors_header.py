"""The header of a safetensors file, read from the file's first bytes.

The format: https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from hubdelta.crawler.foreign_content import foreign_content

FIRST_BYTES: Final = 512
"""Enough to tell what a file is if it is not a safetensors file."""

_PREFIX: Final = 8  # bytes, the header's length as a little-endian number
_METADATA: Final = "__metadata__"
_BITS: Final = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
}
"""Bits per element, by type; other types are left to the reader of the data."""

_LONGEST: Final = 25_000_000  # bytes, huggingface_hub's own limit

_LONGEST_KEPT: Final = 250_000  # bytes of a header that is recognized when it comes again


class BadHeaderError(ValueError):
    """Not a safetensors header, or not this file's; the message is to follow the file's name."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a safetensors file.

    Attributes:
        dtype: as the format spells it: F32, BF16, I64, …
        shape: its dimensions.
        start: where its data begins, in bytes after the header.
        end: where its data ends, in bytes after the header.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def bytes(self) -> int:
        """Length of its data."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Layout:
    """What a header says: thousands of adapters share one, which is then the same object.

    Attributes:
        tensors: by name, in the order of their data, which has neither holes nor overlaps.
        metadata: the file's own metadata, texts by name.
        data_bytes: length of all tensors' data.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    data_bytes: int


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        layout: what it says.
        header_bytes: its length, including the 8-byte length before it.
        file_bytes: length of the file, as the Hub states it.
        start: the file's first bytes, as many as were read, so that none is requested twice.
        hash: of the whole file, on record at the Hub; None if it does not say.
        url: where the Hub redirected to for the file's bytes; None for a local file.
    """

    layout: Layout
    header_bytes: int
    file_bytes: int
    start: bytes = field(repr=False)
    hash: str | None = None
    url: str | None = field(default=None, repr=False)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """As in `Layout`."""
        return self.layout.tensors


def header_length(start: bytes) -> int:
    """Length of a header with its prefix, in bytes.

    Args:
        start: the file's first bytes, at least `FIRST_BYTES` unless the file is shorter.

    Raises:
        BadHeaderError: foreign content, too short a file, or too long a header.
    """
    if what := foreign_content(start):
        raise BadHeaderError(what)
    if len(start) < _PREFIX:
        raise BadHeaderError(f"is not safetensors: only {len(start)} bytes")
    length = int.from_bytes(start[:_PREFIX], "little")
    if length > _LONGEST:
        raise BadHeaderError(f"is not safetensors: a header of {length} bytes")
    return _PREFIX + length


def parse_header(start: bytes, file_bytes: int) -> Header:
    """Read a header.

    Args:
        start: the file's first bytes, at least its header.
        file_bytes: length of the file.

    Raises:
        BadHeaderError: not such a header, or the file is shorter or longer than it says.
    """
    length = header_length(start)
    if len(start) < length:
        raise BadHeaderError(
            f"is truncated: {file_bytes} bytes are fewer than its header's {length}"
        )
    text = start[_PREFIX:length]
    layout = _kept_layout(text) if length <= _LONGEST_KEPT else _layout(text)
    if (whole := length + layout.data_bytes) != file_bytes:
        what = "truncated" if file_bytes < whole else "overlong"
        raise BadHeaderError(f"is {what}: {file_bytes} bytes where its header says {whole}")
    return Header(layout, length, file_bytes, start)


def _layout(text: bytes) -> Layout:
    """What the text of a header says."""
    try:
        raw = json.loads(text, object_pairs_hook=_object)
        metadata = raw.pop(_METADATA, None) or {}
        tensors = dict(sorted(map(_tensor, raw.items()), key=_place))
        if not all(isinstance(text, str) for text in metadata.values()):
            raise TypeError("metadata is text")
    except BadHeaderError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadHeaderError("is not safetensors: its header cannot be read") from error
    data_bytes = 0
    for name, tensor in tensors.items():
        if tensor.start != data_bytes or tensor.bytes < 0:
            raise BadHeaderError(
                f"is corrupt: tensor {name} does not begin where the one before it ends"
            )
        data_bytes = tensor.end
    return Layout(MappingProxyType(tensors), metadata, data_bytes)


_kept_layout = lru_cache(maxsize=100)(_layout)


def header_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file that holds these tensors, one after another in their order.

    Args:
        tensors: by name; their offsets are ignored.
        metadata: the file's own metadata.
    """
    content: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.bytes
        content[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _PREFIX)  # aligns the data, as the library does
    return len(text).to_bytes(_PREFIX, "little") + text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadHeaderError("is corrupt: its header repeats a name")
    return found


def _tensor(entry: tuple[str, Any]) -> tuple[str, Tensor]:
    name, spec = entry
    dtype, shape, (start, end) = spec["dtype"], tuple(spec["shape"]), spec["data_offsets"]
    # Floats, infinity and NaN are JSON to Python; true is 1.
    if not all(type(number) is int and number >= 0 for number in (start, end, *shape)):
        raise BadHeaderError(f"is corrupt: tensor {name} has an impossible shape or offset")
    bits = _BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != 8 * (end - start):
        raise BadHeaderError(
            f"is corrupt: tensor {name} has {end - start} bytes, which do not match its shape "
            f"{list(shape)} in {dtype}"
        )
    return name, Tensor(str(dtype), shape, start, end)


def _place(entry: tuple[str, Tensor]) -> tuple[int, int]:
    return entry[1].start, entry[1].end
