"""Whether two repositories hold the same weights, by hashes or by a sample of their tensors.

Files with the hashes of the original's are the same. What was split into other files, or stored in
another float type, is compared by the names and shapes of its tensors and by some thousand values
of each tensor of its last layer, and of a few others: training that changes a model changes these.
The comparison ends at the first difference.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from hubdelta.crawler.adapter_files import INDEX_SUFFIX, index_of, model_weights
from hubdelta.crawler.downloads import file_info, small_file, weight_header
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.remote_ranges import RemoteRanges
from hubdelta.crawler.safetensors_header import Header, Tensor
from hubdelta.crawler.weight_index import LONGEST_INDEX, WeightIndex, parse_index
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

T = TypeVar("T")

_SAMPLE: Final = 16_384  # values per tensor
_LAST_LAYER, _OTHERS = 12, 12  # tensors sampled, at most

_WRAPPERS = re.compile(r"^(?:(?:base_model|model|language_model|text_model|transformer)\.)+")
"""Prefixes that different classes put before the same tensor names."""

_UNREAD = re.compile(r"lm_head|vision|visual|audio|speech|tower|projector", re.IGNORECASE)
"""Tensors that no text hidden state depends on: copies may lack or tie them."""

_LAYER = re.compile(r"\.(\d+)\.")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of a whole model at a commit.

    Attributes:
        hub: where they are.
        key: the repository at that commit.
        files: its weight files, in all their forms, or the index file of shards; paths inside the
            repository.
    """

    hub: Hub
    key: AdapterKey
    files: Sequence[str]

    @cached_property
    def hashes(self) -> dict[str, str | None]:
        """SHA-256 of each file, None for one stored in git itself: one request.

        Raises:
            AdapterError: as `file_info`.
        """
        files = [file for file in self.files if not file.endswith(INDEX_SUFFIX)]
        if not files and self._index is not None:
            files = list(self._index.files)
        found = file_info(self.hub, self.key, files) if files else {}
        return {path: info.sha256 for path, info in found.items()}

    @cached_property
    def places(self) -> dict[str, tuple[str, str]]:
        """Each tensor's file and name in it, by its name without prefixes: one request.

        Raises:
            AdapterError: as `small_file`; corrupt if the index cannot be read.
        """
        chosen = model_weights(self.files)
        if self._index is not None:
            file_of = self._index.file_of
        elif len(chosen) == 1 and chosen[0].endswith(".safetensors"):
            file_of = dict.fromkeys(self._header(chosen[0]).tensors, chosen[0])
        else:
            file_of = {}
        return {
            _WRAPPERS.sub("", name): (path, name)
            for name, path in file_of.items()
            if path.endswith(".safetensors") and not _UNREAD.search(name)
        }

    def tensor(self, name: str) -> Tensor:
        """Where a tensor is in its file, by its name without prefixes."""
        path, stored = self.places[name]
        tensors = self._header(path).tensors
        if stored not in tensors:
            raise AdapterError(Reason.CORRUPT, f"{path}: there is no {stored}")
        return tensors[stored]

    def sample(self, name: str) -> tuple[str, bytes]:
        """The type of a tensor, and the bytes of values from its middle.

        One ranged request, unless they came with the header or were requested before.
        """
        if name not in self._samples:
            self._samples[name] = self._sample(name)
        return self._samples[name]

    @cached_property
    def _samples(self) -> dict[str, tuple[str, bytes]]:
        return {}

    def _sample(self, name: str) -> tuple[str, bytes]:
        path, _ = self.places[name]
        header, tensor = self._header(path), self.tensor(name)
        count = math.prod(tensor.shape)
        width = tensor.bytes // count if count else 0
        taken = min(count, _SAMPLE)
        first = header.header_bytes + tensor.start + (count - taken) // 2 * width
        content = bytearray(header.start[first : first + taken * width])
        if len(content) == taken * width:
            return tensor.dtype, bytes(content)
        content = bytearray(taken * width)
        ranges = RemoteRanges(
            self.hub, self.key, path, header.file_bytes, header.url, connections=1
        )
        ranges.read([(first, memoryview(content))])
        return tensor.dtype, bytes(content)

    @cached_property
    def _headers(self) -> dict[str, Header]:
        return {}

    def _header(self, path: str) -> Header:
        if path not in self._headers:
            self._headers[path] = weight_header(self.hub, self.key, path)
        return self._headers[path]

    @cached_property
    def _index(self) -> WeightIndex | None:
        """The index file of shards: one request; None for a single file."""
        first, *others = [*model_weights(self.files), ""]
        path = first if first.endswith(INDEX_SUFFIX) else index_of(first) if any(others) else None
        if path is None:
            return None
        return parse_index(path, small_file(self.hub, self.key, path, limit=LONGEST_INDEX))


def same_weights(original: Weights, copy: Weights) -> bool:
    """Whether a model holds another's weights: one request each, and some ranges if needed.

    Weights that cannot be compared, such as pickles with different hashes, count as different.

    Raises:
        AdapterError: network, gated, not_found or disabled: they could not be read.
        HubError: offline, or a refused token.
    """
    try:
        known = set(original.hashes.values()) - {None}
        if copy.hashes and all(found in known for found in copy.hashes.values()):
            return True
        return _same_tensors(original, copy)
    except AdapterError as error:
        if error.reason in {Reason.CORRUPT, Reason.NO_WEIGHTS}:
            return False
        raise


def _same_tensors(original: Weights, copy: Weights) -> bool:
    names = _chosen(original.places)
    if not names or not copy.places.keys() >= set(names):
        return False
    for name in names:
        if original.tensor(name).shape != copy.tensor(name).shape:
            return False
        if not _same_values(original.sample(name), copy.sample(name)):
            return False
    return True


def _chosen(names: Iterable[str]) -> list[str]:
    """The tensors to compare: those of the last layer first, then some others."""
    by_layer: dict[int, list[str]] = defaultdict(list)
    for name in sorted(names):
        number = _LAYER.search(name)
        by_layer[int(number[1]) if number else -1].append(name)
    last = by_layer.pop(max(by_layer, default=-1), [])
    others = [name for layer in sorted(by_layer) for name in by_layer[layer]]
    return [*_spread(last, _LAST_LAYER), *_spread(others, _OTHERS)]


def _spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def _same_values(one: tuple[str, bytes], other: tuple[str, bytes]) -> bool:
    """Whether values are the same, or would be if stored in the other's type."""
    if one == other:
        return True
    if one[0] == other[0] or not {one[0], other[0]} <= _FLOATS.keys():
        return False
    try:
        a, b = _FLOATS[one[0]](one[1]), _FLOATS[other[0]](other[1])
    except ValueError:  # not as many bytes as the type and shape require
        return False
    with np.errstate(over="ignore"):
        return bool(
            np.array_equal(_rounded(a, other[0]), b, equal_nan=True)
            or np.array_equal(_rounded(b, one[0]), a, equal_nan=True)
        )


def _bfloat16(content: bytes) -> Floats:
    values: Floats = (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return values


_FLOATS: Final[Mapping[str, Callable[[bytes], Floats]]] = {
    "F32": lambda content: np.frombuffer(content, "<f4"),
    "F16": lambda content: np.frombuffer(content, "<f2").astype("<f4"),
    "BF16": _bfloat16,
}
"""How to read the values of a tensor, by its type."""


def _rounded(values: Floats, dtype: str) -> Floats:
    """Values as stored in a type: rounded to nearest, ties to even."""
    if dtype == "F16":
        return values.astype("<f2").astype("<f4")
    if dtype == "BF16":
        bits = values.view("<u4")
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
        values = bits.view("<f4")
    return values
