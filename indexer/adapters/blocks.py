"""A safetensors file read as one block, whose tensors are views made when they are asked for.

An adapter has hundreds of small tensors, and thousands of adapters have the same ones: reading,
checking and naming each of them alone would take most of the host's time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch

from hubdelta.crawler.safetensors_header import Header, Layout
from hubdelta.indexer.adapters.local_files import open_file
from hubdelta.schemas.errors import AdapterError, Reason

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Types that a block may hold, as the format spells them."""


class StoredNames(dict[str, str]):
    """Name of a tensor → its name in the file; never changed, so that it can be part of a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        """Of its content, computed once."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(frozenset(self.items()))


@dataclass(frozen=True)
class Block(Mapping[str, torch.Tensor]):
    """The data of a file, and its tensors by name.

    Attributes:
        layout: what the file's header says.
        data: uint8 [bytes], without the header.
        stored: name of a tensor here → its name in the file.
    """

    layout: Layout
    data: torch.Tensor
    stored: StoredNames

    def __getitem__(self, name: str) -> torch.Tensor:
        """The view of one tensor."""
        tensor = self.layout.tensors[self.stored[name]]
        return self.data[tensor.start : tensor.end].view(DTYPES[tensor.dtype]).view(tensor.shape)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.stored)

    def __len__(self) -> int:
        """How many tensors there are."""
        return len(self.stored)

    def __contains__(self, name: object) -> bool:
        """Whether there is a tensor of that name; without making it."""
        return name in self.stored


@dataclass(frozen=True)
class Run:
    """Neighboring data of one type.

    Attributes:
        dtype: as the format spells it.
        start: where it begins, in bytes after the header.
        end: where it ends.
    """

    dtype: str
    start: int
    end: int


@lru_cache(maxsize=100)
def runs_of(layout: Layout) -> tuple[Run, ...] | None:
    """The data of a file by type; None if some of its tensors cannot be views of a block."""
    runs: list[Run] = []
    for tensor in layout.tensors.values():
        if tensor.dtype not in DTYPES or tensor.start % DTYPES[tensor.dtype].itemsize:
            return None
        if runs and runs[-1].dtype == tensor.dtype:
            runs[-1] = Run(tensor.dtype, runs[-1].start, tensor.end)
        else:
            runs.append(Run(tensor.dtype, tensor.start, tensor.end))
    return tuple(runs)


def read_block(file: Path, header: Header) -> torch.Tensor:
    """The data of a safetensors file, uint8 [bytes], in memory of its own.

    Raises:
        AdapterError: corrupt: it can be read no further.
    """
    data = np.empty(header.layout.data_bytes, np.uint8)
    with open_file(file) as content:
        content.seek(header.header_bytes)
        try:
            read = content.readinto(data.data)
        except OSError as error:
            raise AdapterError(Reason.CORRUPT, f"{file}: {error.strerror}") from error
    if read != len(data):
        raise AdapterError(Reason.CORRUPT, f"{file.name} ended while it was read")
    return torch.from_numpy(data)
