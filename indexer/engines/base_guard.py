"""Restoring the base after every adapter, whatever a PEFT method does to it.

PEFT methods replace modules, add hooks, change the config, swap a parameter's data (PiSSA, OLoRA,
KaSA) or write into it. What is replaced or swapped is remembered and put back. What is overwritten
is detected by comparing checksums of all weights, and read from the base's files again.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

Sums = tuple[torch.Tensor, torch.Tensor]
"""Checksums of a matrix: [rows] and [columns], int64."""


class BaseGuard:
    """Lends a model out and restores it afterwards.

    Args:
        model: the base, in its final form: on its device, in its dtype.
        reload: reads the same model again.
    """

    def __init__(self, model: PreTrainedModel, reload: Callable[[], PreTrainedModel]) -> None:
        self._model, self._reload = model, reload
        self._sums = {name: _sums(tensor) for name, tensor in _tensors(model).items()}

    @contextmanager
    def lent(self, written: Iterable[str] = ()) -> Iterator[None]:
        """Restore the model when the block ends, however it ends.

        It costs a pass over the weights, for the integer sums of each matrix's rows and columns.

        Args:
            written: names of parameters that the block is known to write into; it works on copies,
                so that they need not be read again.

        Raises:
            RuntimeError: a write cannot be undone: the base cannot be read again.
        """
        modules = [
            (
                module,
                {k: copy.copy(v) if isinstance(v, dict) else v for k, v in vars(module).items()},
            )
            for module in self._model.modules()
        ]
        configs = {id(c): c for c in (getattr(m, "config", None) for m, _ in modules) if c}
        settings = [(config, dict(vars(config))) for config in configs.values()]
        tensors = _tensors(self._model)
        data = {name: tensor.data for name, tensor in tensors.items()}
        frozen = {name: tensor.requires_grad for name, tensor in tensors.items()}
        for name in tensors.keys() & set(written):
            tensors[name].data = data[name].clone()
        try:
            yield
        finally:
            for owner, attributes in (*modules, *settings):
                vars(owner).clear()
                vars(owner).update(attributes)
            for name, tensor in tensors.items():
                tensor.data = data[name]
                tensor.requires_grad_(frozen[name])
            self._undo_writes(data)

    def _undo_writes(self, data: Mapping[str, torch.Tensor]) -> None:
        changed = [name for name in data if not _equal(_sums(data[name]), self._sums[name])]
        if not changed:
            return
        logger.debug("%s and %d other tensors were written into", changed[0], len(changed) - 1)
        fresh = _tensors(self._reload())
        with torch.no_grad():
            for name in changed:
                data[name].copy_(fresh[name])
        lost = [name for name in changed if not _equal(_sums(data[name]), self._sums[name])]
        if lost:
            raise RuntimeError(f"the base's {lost[0]} was changed and cannot be read again")


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    """A module's attributes, with its dicts of children, parameters and hooks as copies."""
    return {
        name: copy.copy(value) if isinstance(value, dict) else value
        for name, value in vars(module).items()
    }


def _tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, shared ones once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


@torch.inference_mode()
def _sums(tensor: torch.Tensor) -> Sums:
    """Sums of a tensor's bits over rows and columns, as wrapping 64-bit integers.

    Eight bytes at a time, at memory speed; a single changed bit shows in both.
    """
    rows = tensor.detach().flatten(1) if tensor.dim() > 1 else tensor.detach().reshape(1, -1)
    bits = rows.contiguous().view(torch.uint8)
    if bits.shape[1] % 8 == 0:
        bits = bits.view(torch.int64)
    return bits.sum(1, dtype=torch.int64), bits.sum(0, dtype=torch.int64)


def _equal(one: Sums, other: Sums) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
