"""The stacks of a batch of blocks: views of them where all adapters are alike.

An adapter costs one copy to the device; the rest is done for all adapters of a plan at once.
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
        stored: their blocks [n, numbers].
        scales: of their products, [n, 1] in fp32.
    """

    plan: BlockPlan
    places: torch.Tensor
    stored: torch.Tensor
    scales: torch.Tensor
    _made: dict[tuple[torch.dtype, bool], torch.Tensor] = field(default_factory=dict)

    def part(self, part: Part, dtype: torch.dtype, *, scaled: bool = False) -> torch.Tensor:
        """A tensor of each adapter, [n, *shape]; blocks are cast and scaled once, as a whole."""
        if (dtype, scaled) not in self._made:
            blocks = self.stored * self.scales if scaled else self.stored
            self._made[dtype, scaled] = blocks.to(dtype)
        return part.of(self._made[dtype, scaled])


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
        blocks = [batch[place].data for place in own]
        stored = gathered(blocks, blocks[0].shape, device).view(plan.dtype)
        scales = numbers([batch[place].scale for place in own], device).squeeze(2)
        groups.append(_Group(plan, torch.tensor(own, device=device), stored, scales))
    return groups


def _stack(
    name: str, groups: Sequence[_Group], adapters: int, layer: DenseLayer, dtype: torch.dtype
) -> DenseStack:
    editing = [(group, group.plan.parts[name]) for group in groups if name in group.plan.parts]
    has_norms = any(parts.magnitude is not None for _, parts in editing)
    wide = torch.float32 if has_norms else dtype  # see DenseStack.of
    downs = [group.part(parts.down, wide) for group, parts in editing]
    ups = [group.part(parts.up, wide, scaled=True) for group, parts in editing]
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
