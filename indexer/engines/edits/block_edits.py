"""The edits of a LoRA adapter that was read as one block, shared by all adapters like it.

Where each factor lies in the block is found once for each layout and set of settings. Of an adapter
only its numbers are then looked at, all at once.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from hubdelta.indexer.adapters.blocks import DTYPES, Block, runs_of
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edit, LowRank
from hubdelta.indexer.engines.edits.methods import LoraNames

_SEGMENT = 4 << 20
"""Bytes of a segment of one adapter: a batch of them stays below the size from which on the
allocator gives memory back (`process.keep_freed_memory`), and would have to ask for it again."""


@dataclass(frozen=True)
class Part:
    """Where a tensor lies in a block of one type.

    Attributes:
        segment: which of the block's segments.
        start: its first number in that segment.
        shape: of the tensor.
    """

    segment: int
    start: int
    shape: tuple[int, ...]

    def of(self, segments: torch.Tensor) -> torch.Tensor:
        """The views of it in a segment of each adapter [n, numbers]: [n, *shape]."""
        end = self.start + math.prod(self.shape)
        return segments[:, self.start : end].view(len(segments), *self.shape)


@dataclass(frozen=True)
class Parts:
    """The tensors of LoRA or DoRA at one module.

    Attributes:
        down: A, [rank, in_features].
        up: B, [out_features, rank].
        magnitude: of DoRA, [out_features].
    """

    down: Part
    up: Part
    magnitude: Part | None


@dataclass(frozen=True, eq=False)
class BlockPlan:
    """Where the factors of LoRA lie in a block, by the module that they edit.

    Attributes:
        parts: by module.
        dtype: of the block's numbers.
        segments: neighboring tensors that are stacked together: first and last number of each.
    """

    parts: Mapping[str, Parts]
    dtype: torch.dtype
    segments: tuple[slice, ...]

    @classmethod
    def of(cls, layers: Sequence[LoraNames], block: Block) -> "BlockPlan | None":
        """The plan for adapters like one whose tensors were checked; None if there is none.

        Args:
            layers: the names of its factors.
            block: its tensors.
        """
        runs = runs_of(block.layout)
        if runs is None or len(runs) != 1:
            return None
        dtype = DTYPES[runs[0].dtype]
        starts, size = [0], dtype.itemsize
        for tensor in block.layout.tensors.values():
            if tensor.end - starts[-1] > _SEGMENT and tensor.start > starts[-1]:
                starts.append(tensor.start)

        def part(name: str) -> Part:
            tensor = block.layout.tensors[block.stored[name]]
            segment = bisect_right(starts, tensor.start) - 1
            return Part(segment, (tensor.start - starts[segment]) // size, tensor.shape)

        parts = {
            layer.module: Parts(
                part(layer.down),
                part(layer.up),
                None if layer.magnitude is None else part(layer.magnitude),
            )
            for layer in layers
        }
        ends = [*starts[1:], block.layout.data_bytes]
        segments = (slice(a // size, b // size) for a, b in zip(starts, ends, strict=True))
        return cls(parts, dtype, tuple(segments))

    @cached_property
    def widths(self) -> dict[str, int]:
        """In_features + out_features of each module."""
        return {name: it.down.shape[1] + it.up.shape[0] for name, it in self.parts.items()}

    @cached_property
    def rank(self) -> int:
        """R, which all modules have in common."""
        return next(iter(self.parts.values())).down.shape[0]


@dataclass(frozen=True)
class BlockEdits(Mapping[str, Edit]):
    """The edits of one adapter, each made when it is asked for.

    Attributes:
        plan: where its factors lie.
        data: its block, uint8 [bytes].
        scale: factor of its products.
    """

    plan: BlockPlan
    data: torch.Tensor
    scale: float

    def __getitem__(self, module: str) -> DenseEdit:
        """The edit of one module."""
        parts = self.plan.parts[module]
        magnitude = None if parts.magnitude is None else self._tensor(parts.magnitude)
        low_rank = LowRank(self._tensor(parts.down), self._tensor(parts.up), self.scale)
        return DenseEdit(low_rank, magnitude=magnitude)

    def segment(self, number: int) -> torch.Tensor:
        """The numbers of one segment, [numbers]."""
        return self.data.view(self.plan.dtype)[self.plan.segments[number]]

    def _tensor(self, part: Part) -> torch.Tensor:
        return part.of(self.segment(part.segment).unsqueeze(0))[0]

    def __iter__(self) -> Iterator[str]:
        """The modules."""
        return iter(self.plan.parts)

    def __len__(self) -> int:
        """How many modules are edited."""
        return len(self.plan.parts)
