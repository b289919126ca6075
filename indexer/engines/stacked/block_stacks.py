"""The stacks of a batch of blocks: views of them where all adapters are alike.

An adapter costs a few copies to the device; the rest is done for all of a plan at once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from hubdelta.indexer.engines.edits.block_edits import BlockEdits, BlockPlan, Part
from hubdelta.indexer.engines.edits.edits import Edits
from hubdelta.indexer.engines.stacked.stacks import (
    DenseLayer,
    DenseStack,
    dora_scales,
    gathered,
    low_rank_stack,
    numbers,
)


@dataclass(frozen=True)
class _Group:
    """The adapters of a batch that have one plan.

    Attributes:
        plan: the plan.
        places: theirs in the batch, int64 [n].
        stored: each segment of their blocks, [n, numbers].
        scales: of their products, [n, 1, 1] in fp32.
    """

    plan: BlockPlan
    places: torch.Tensor
    stored: Sequence[torch.Tensor]
    scales: torch.Tensor
    _cast: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def part(self, part: Part, dtype: torch.dtype) -> torch.Tensor:
        """A tensor of each adapter, [n, *shape]; segments are cast once, as a whole."""
        key = part.segment, dtype
        if key not in self._cast:
            self._cast[key] = self.stored[part.segment].to(dtype)
        return part.of(self._cast[key])

    def scaled(self, part: Part, dtype: torch.dtype) -> torch.Tensor:
        """The same, multiplied by each adapter's scale; not views."""
        return (part.of(self.stored[part.segment]) * self.scales).to(dtype)


def blocks_in(batch: Sequence[Edits]) -> list[BlockEdits] | None:
    """A batch that consists of blocks; None if it does not."""
    blocks = [edits for edits in batch if isinstance(edits, BlockEdits)]
    return blocks if blocks and len(blocks) == len(batch) else None


def stacks_of_blocks(
    batch: Sequence[BlockEdits], layers: Mapping[str, DenseLayer], dtype: torch.dtype
) -> dict[str, DenseStack]:
    """The stack of each module that a batch edits.

    Args:
        batch: the edits of each adapter.
        layers: the base's layers by name.
        dtype: of the products.
    """
    groups = _groups(batch, next(iter(layers.values())).weight.device)
    names = sorted({name for group in groups for name in group.plan.parts})
    return {name: _stack(name, groups, len(batch), layers[name], dtype) for name in names}


def _groups(batch: Sequence[BlockEdits], device: torch.device) -> list[_Group]:
    places: dict[BlockPlan, list[int]] = defaultdict(list)
    for place, edits in enumerate(batch):
        places[edits.plan].append(place)
    groups = []
    for plan, own in places.items():
        stored = []
        for number, segment in enumerate(plan.segments):
            numbers_of_each = [batch[place].segment(number) for place in own]
            stored.append(gathered(numbers_of_each, (segment.stop - segment.start,), device))
        scales = numbers([batch[place].scale for place in own], device)
        groups.append(_Group(plan, torch.tensor(own, device=device), stored, scales))
    return groups


def _stack(
    name: str, groups: Sequence[_Group], adapters: int, layer: DenseLayer, dtype: torch.dtype
) -> DenseStack:
    editing = [(group, group.plan.parts[name]) for group in groups if name in group.plan.parts]
    has_norms = any(parts.magnitude is not None for _, parts in editing)
    wide = torch.float32 if has_norms else dtype  # see DenseStack.of
    downs = [group.part(parts.down, wide) for group, parts in editing]
    ups = [group.scaled(parts.up, wide) for group, parts in editing]
    if len(groups) == 1:
        down, up = downs[0], ups[0]
    else:
        rank = max(each.shape[1] for each in downs)
        down = downs[0].new_zeros(adapters, rank, layer.in_features)
        up = ups[0].new_zeros(adapters, layer.out_features, rank)
        for (group, _), a, b in zip(editing, downs, ups, strict=True):
            down[group.places, : a.shape[1]] = a
            up[group.places, :, : a.shape[1]] = b
    scale = None
    if has_norms:
        magnitudes = torch.full((adapters, layer.out_features), torch.nan, device=down.device)
        for group, parts in editing:
            if parts.magnitude is not None:
                magnitudes[group.places] = group.part(parts.magnitude, torch.float32)
        scale = dora_scales(magnitudes, down, up, layer)
    return low_rank_stack(adapters, down.to(dtype), up.to(dtype), scale, layer)
