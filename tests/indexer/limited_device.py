"""A stand-in for a device with little memory: only so many adapters fit in a pass.

What a real device does is tested where memory really runs out; how an engine goes on is tested
with this one, whose limit falls on the same adapters each time.
"""

import weakref
from collections.abc import Sequence

import torch

from hubdelta.indexer.engines.edits.edits import Edits, numbers
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.stacked.model import Prepared, StackedModel


class LimitedModel(StackedModel):
    """The stacked model on such a device.

    Attributes:
        most: adapters that fit in a pass.
        most_numbers: numbers that fit in one adapter's stacks.
        tried: how many adapters each pass was to hold, in the order of the passes.
        refused: the same of the passes that did not fit.
        still_held: passes that began while something of a refused one was not yet freed, or
            while another batch's stacks were there.
    """

    most = 2**31
    most_numbers = 2**62

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.tried: list[int] = []
        self.refused: list[int] = []
        self.still_held = 0
        self._left: weakref.ref[torch.Tensor] | None = None
        self._stacked: list[weakref.ref[Prepared]] = []
        super().__init__(*args, **kwargs)

    def prepare(self, batch: Sequence[Edits], precision: str) -> Prepared:
        if any(numbers(edits) > self.most_numbers for edits in batch):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        prepared = super().prepare(batch, precision)
        self._stacked.append(weakref.ref(prepared))
        return prepared

    def run(self, prepared: Prepared) -> Activations:
        others = (stacked() for stacked in self._stacked if stacked() is not prepared)
        of_a_refused_pass = self._left() if self._left else None
        self.still_held += any(left is not None for left in (of_a_refused_pass, *others))
        self.tried.append(prepared.adapters)
        if prepared.adapters > self.most:
            self.refused.append(prepared.adapters)
            activations = torch.zeros(1)
            self._left = weakref.ref(activations)
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().run(prepared)
