"""The edits of a LoRA adapter that was read as one block, shared by all adapters like it.

Where each factor lies in the block is found once for each layout and set of settings. Of an adapter
only its numbers are then looked at, all at once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from hubdelta.indexer.adapters.blocks import DTYPES, Block, runs_of
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edit, LowRank
from hubdelta.indexer.engines.edits.methods import LoraNames


@dataclass(frozen=True)
class Part:
    """Where a tensor lies in a block of one type.

    Attributes:
        start: its first number.
        shape: of the tensor.
    """

    start: int
    shape: tuple[int, ...]

    def of(self, blocks: torch.Tensor) -> torch.Tensor:
        """The views of it in blocks [adapters, numbers]: [adapters, *shape]."""
        end = self.start + math.prod(self.shape)
        return blocks[:, self.start : end].view(len(blocks), *self.shape)


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
    """

    parts: Mapping[str, Parts]
    dtype: torch.dtype

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

        def part(name: str) -> Part:
            tensor = block.layout.tensors[block.stored[name]]
            return Part(tensor.start // dtype.itemsize, tensor.shape)

        parts = {
            layer.module: Parts(
                part(layer.down),
                part(layer.up),
                None if layer.magnitude is None else part(layer.magnitude),
            )
            for layer in layers
        }
        return cls(parts, dtype)

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
        numbers = self.data.view(self.plan.dtype).unsqueeze(0)
        low_rank = LowRank(parts.down.of(numbers)[0], parts.up.of(numbers)[0], self.scale)
        magnitude = None if parts.magnitude is None else parts.magnitude.of(numbers)[0]
        return DenseEdit(low_rank, magnitude=magnitude)

    def __iter__(self) -> Iterator[str]:
        """The modules."""
        return iter(self.plan.parts)

    def __len__(self) -> int:
        """How many modules are edited."""
        return len(self.plan.parts)
