"""Which adapters share a pass: as many as are useful and fit into memory, of similar ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil
import torch

from hubdelta.indexer.engines.edits.block_edits import BlockEdits
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits, numbers

_ENOUGH_ROWS = {"cpu": 5120, "cuda": 16384}
"""Tokens in a pass beyond which it gets no more efficient: limited by products, and on a GPU by its
launches, which block the interpreter for the threads that prepare the next batch."""

_PADDING = 0.1
"""Share of the base's own dense products that padding ranks may cost before a new batch begins."""

_SHARE = 0.3
"""Share of free memory to use: on a GPU the next batch is stacked while one runs."""


@dataclass
class Room:
    """How much one pass may hold.

    Attributes:
        device: where it runs.
        bytes_per_adapter: of activations that one adapter adds, as measured on the base.
        rows_per_adapter: tokens that one adapter adds to the largest pass.
        dense_numbers: weights in the base's dense layers.
        most: adapters in a pass, regardless of memory; halved when memory runs out anyway.
    """

    device: torch.device
    bytes_per_adapter: int
    rows_per_adapter: int
    dense_numbers: int
    most: int = field(default=2**31)

    def __post_init__(self) -> None:
        enough = _ENOUGH_ROWS.get(self.device.type, _ENOUGH_ROWS["cpu"])
        self.most = min(self.most, max(1, enough // self.rows_per_adapter))

    def batches(self, adapters: Sequence[Edits], bytes_per_number: int = 4) -> list[list[int]]:
        """Divide adapters into passes.

        Args:
            adapters: their edits.
            bytes_per_number: of the type in which the edits are stacked.

        Returns:
            Places in `adapters`, each once; batches are grouped by rank and targets.
        """
        budget = _SHARE * free_bytes(self.device)
        most = _evenly(len(adapters), self.most)
        sizes = [_Size.of(edits) for edits in adapters]
        order = sorted(
            range(len(adapters)), key=lambda place: (sizes[place].rank, sizes[place].modules)
        )
        batches: list[list[int]] = []
        load = _Load()
        for place in order:
            grown = load.with_one_more(sizes[place])
            too_much = (
                grown.adapters > most
                or grown.stacked * bytes_per_number + grown.adapters * self.bytes_per_adapter
                > budget
                or grown.stacked - grown.needed > _PADDING * self.dense_numbers * grown.adapters
            )
            if not batches or too_much:
                batches.append([])
                grown = _Load().with_one_more(sizes[place])
            batches[-1].append(place)
            load = grown
        return batches

    def halve(self, adapters: int) -> None:
        """Take at most half of `adapters` from now on, since that many were too many."""
        self.most = max(1, min(self.most, adapters // 2))


@dataclass(frozen=True)
class _Size:
    """What one adapter's edits hold.

    Attributes:
        rank: the largest.
        modules: how many are edited.
        numbers: in all edits.
        others: of those, outside the low-rank products.
        widths: in_features + out_features of each layer that has a low-rank product.
    """

    rank: int
    modules: int
    numbers: int
    others: int
    widths: dict[str, int]

    @classmethod
    def of(cls, edits: Edits) -> "_Size":
        """Measure an adapter's edits."""
        if isinstance(edits, BlockEdits):
            widths, rank = edits.plan.widths, edits.plan.rank
            held = edits.data.numel() // edits.plan.dtype.itemsize
            # Its factors are views of the block, but for B, which is multiplied by the scale.
            return cls(rank, len(edits), held + held // 2, held // 2, widths)
        widths = {}
        most = products = 0
        for name, edit in edits.items():
            if isinstance(edit, DenseEdit) and edit.low_rank is not None:
                rank, in_features = edit.low_rank.down.shape
                widths[name] = width = in_features + edit.low_rank.up.shape[0]
                products += rank * width
                most = max(most, rank)
        others = numbers(edits) - products
        return cls(most, len(edits), products + others, others, widths)


@dataclass(frozen=True)
class _Load:
    """What a batch holds once it is stacked.

    Attributes:
        adapters: how many.
        needed: numbers in their edits.
        rank: the largest.
        widths: in_features + out_features of each layer for which any has a low-rank product.
        others: numbers in their edits outside the low-rank products.
    """

    adapters: int = 0
    needed: int = 0
    rank: int = 0
    widths: dict[str, int] = field(default_factory=dict)
    others: int = 0

    @property
    def stacked(self) -> int:
        """Numbers in the stacks, including padding of ranks and of absent products."""
        return self.adapters * self.rank * sum(self.widths.values()) + self.others

    def with_one_more(self, size: "_Size") -> "_Load":
        """The load of the batch with another adapter."""
        return _Load(
            self.adapters + 1,
            self.needed + size.numbers,
            max(self.rank, size.rank),
            self.widths if self.widths is size.widths else self.widths | size.widths,
            self.others + size.others,
        )


def _evenly(adapters: int, most: int) -> int:
    """Adapters per batch, for the fewest batches of nearly equal size."""
    return math.ceil(adapters / max(1, math.ceil(adapters / most)))


def free_bytes(device: torch.device) -> int:
    """Free memory where a pass runs, including what torch holds but does not use."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + cached)
