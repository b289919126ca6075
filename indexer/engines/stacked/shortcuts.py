"""Cheaper ways to compute the same last hidden state, each used only if the base confirms it.

They do not depend on the architecture: a shortcut is tried on the base's own activations and kept
if the answer stays the same up to fp32 rounding.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

logger = logging.getLogger(__name__)

_SAME = 1e-5
"""Largest relative difference (L2 norms) between two fp32 computations of the same value."""


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors differ by no more than fp32 rounding; False for other shapes."""
    if a.shape != b.shape:
        return False
    return bool(torch.linalg.vector_norm(a - b) <= _SAME * torch.linalg.vector_norm(b))


def rms_norm_of(
    module: nn.Module, sample: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Torch's fused RMSNorm as a replacement for a module that computes it in six steps.

    Args:
        module: any module without children.
        sample: an input of its own, [..., features].

    Returns:
        The fused forward pass; None if the module computes something else.
    """
    parameters = dict(module.named_parameters())
    weight = parameters.get("weight")
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if len(parameters) != 1 or weight is None or not isinstance(eps, float):
        return None
    if weight.shape != sample.shape[-1:] or not sample.is_floating_point():
        return None
    sample = sample.float()
    expected = module(sample)
    for scale in (weight.detach(), 1.0 + weight.detach()):  # Gemma's weights are centered at zero

        def fused(x: torch.Tensor, scale: torch.Tensor = scale) -> torch.Tensor:
            return F.rms_norm(x.float(), scale.shape, scale, eps)

        if isinstance(expected, torch.Tensor) and same(fused(sample), expected):
            return fused
    return None


def trim_last_layer(model: nn.Module, standins: Mapping[str, object], ids: torch.Tensor) -> None:
    """Let the last layer's modules compute only the last token if that changes nothing.

    After attention, the last layer acts on each token separately, and only the last token is
    needed; its residual sums broadcast. Keys and values are needed for every token: trimming them
    changes the answer, so they are left unchanged.

    Args:
        model: a transformers model without a head.
        standins: module name → its forward pass.
        ids: token ids [rows, tokens]; no row may equal another.
    """
    layers = max(
        (
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList)
        ),
        key=lambda found: len(found[1]),
        default=None,
    )
    if layers is None or not len(layers[1]):
        return
    name, last = f"{layers[0]}.{len(layers[1]) - 1}.", layers[1][-1]
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))

    hook = last.register_forward_pre_hook(record, with_kwargs=True)
    try:
        model(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
    if len(calls) != 1:
        return
    args, kwargs = calls[0]
    expected = _states(last(*args, **kwargs))
    for part, standin in standins.items():
        if not part.startswith(name) or not hasattr(standin, "last_token_only"):
            continue
        standin.last_token_only = True
        try:
            states = _states(last(*args, **kwargs))
            unchanged = states.shape == expected.shape and same(states[:, -1], expected[:, -1])
        except (RuntimeError, ValueError, IndexError, TypeError):
            unchanged = False
        standin.last_token_only = unchanged
        logger.debug("%s: last token %s", part, "only" if unchanged else "and all others")


def _states(output: Any) -> torch.Tensor:
    """The hidden states [rows, tokens, hidden] in a layer's output."""
    states: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return states
