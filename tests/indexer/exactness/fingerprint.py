"""What must be the same in a base before and after an engine has run on it."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from made_by_peft import run


class Fingerprint(NamedTuple):
    """A model at one moment; equal where nothing has been changed.

    Attributes:
        weights: SHA-256 of the names, types, shapes and bytes of all parameters and buffers.
        modules: name and class of each.
        hooks: how many forward hooks there are.
        config: the model's own.
        answer: the bytes of its activations.
    """

    weights: str
    modules: list[tuple[str, type]]
    hooks: int
    config: dict[str, Any]
    answer: bytes


def fingerprint(model: torch.nn.Module, probes: Sequence[torch.Tensor]) -> Fingerprint:
    answer = run(model, probes).tobytes()  # first: transformers hooks itself when it first runs
    weights = sha256()
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, tensor in tensors:
            weights.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            weights.update(tensor.detach().reshape(-1).view(torch.uint8).numpy())
    return Fingerprint(
        weights.hexdigest(),
        [(name, type(module)) for name, module in model.named_modules()],
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
        model.config.to_dict(),
        answer,
    )
