"""Copies of a model's structure: the same modules around the same or other tensors."""

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

Module = TypeVar("Module", bound=nn.Module)


def structural_copy(
    module: Module, replace: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> Module:
    """A copy of a module tree with `replace` applied to its parameters and buffers.

    By default the copy shares every tensor with the original, so its modules can get another
    forward pass while the original keeps its own.
    """
    tensors = [*module.parameters(), *module.buffers()]
    memo = {id(tensor): replace(tensor) if replace else tensor for tensor in tensors}
    return copy.deepcopy(module, memo)


def on_meta(model: Module) -> Module:
    """A copy of a model without the weights: PEFT can be applied to it at no cost."""

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        bare = torch.empty_like(tensor, device="meta")
        return nn.Parameter(bare, requires_grad=False) if isinstance(tensor, nn.Parameter) else bare

    return structural_copy(model, empty)


def is_dense(module: nn.Module) -> bool:
    """Whether a module has a dense layer's weight: a Linear, a Conv1D or a subclass."""
    return isinstance(module, nn.Linear | Conv1D)


def dense_parameters(module: nn.Module) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight of a dense layer as [out_features, in_features], a view, and its bias if any."""
    parameters = dict(module.named_parameters(recurse=False))
    weight, bias = parameters["weight"].detach(), parameters.get("bias")
    if not isinstance(module, nn.Linear):  # a Conv1D stores its weight transposed
        weight = weight.T
    return weight, None if bias is None else bias.detach()


def dense_shape(module: nn.Module) -> tuple[int, int]:
    """Out_features and in_features of a dense layer."""
    rows, columns = _weight(module).shape
    return (rows, columns) if isinstance(module, nn.Linear) else (columns, rows)


def stored_shape(module: nn.Module) -> tuple[int, ...]:
    """The shape of a dense layer's weight in checkpoints."""
    return tuple(_weight(module).shape)


def _weight(module: nn.Module) -> torch.Tensor:
    weight = module.weight
    if not isinstance(weight, torch.Tensor):
        raise TypeError(f"a {type(module).__name__} has no weight")
    return weight


def computes_dense_product(module: nn.Module) -> bool:
    """Whether a module with a dense layer's weight really computes W x + b, on random input."""
    # In fp32: on a GPU, weights are in half precision but biases are not, which modules reject.
    whole = structural_copy(module, _in_fp32)
    weight, bias = dense_parameters(whole)
    x = torch.randn(2, weight.shape[1], device=weight.device)
    y = whole(x)
    expected = nn.functional.linear(x, weight, bias)
    if not isinstance(y, torch.Tensor) or y.shape != expected.shape:
        return False
    return bool((y - expected).abs().max() <= 1e-3 * expected.abs().max())


def _in_fp32(tensor: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(tensor.detach().float(), requires_grad=False)


@dataclass(frozen=True)
class LeafInputs:
    """The inputs of modules without children in one forward pass.

    Attributes:
        whole_batch: names of those that see each token of each row once, row by row. Only these can
            have a different adapter per row: a routed expert sees some tokens, a table of positions
            one row.
        first: name → its first input, for those that map one tensor to one or several.
        once_a_row: names of those that see one token of each row, as in a decoder that gets only
            its start token.
        bytes_per_token: total output of the layer with the largest output, in fp32.
    """

    whole_batch: frozenset[str]
    first: Mapping[str, torch.Tensor]
    once_a_row: frozenset[str]
    bytes_per_token: int

    @classmethod
    def seen_by(
        cls, model: nn.Module, inputs: Mapping[str, torch.Tensor]
    ) -> tuple["LeafInputs", Any]:
        """Watch a forward pass.

        Args:
            model: a transformers model without a head.
            inputs: name → token ids [rows, tokens]. The rows of `input_ids`, which has the most
                tokens, must be distinct.

        Returns:
            What was seen, and what the model returned, with all hidden states.
        """
        calls: dict[str, int] = defaultdict(int)
        first: dict[str, torch.Tensor] = {}
        outputs: dict[str, int] = defaultdict(int)

        def watch(name: str) -> Callable[..., None]:
            layer = _LAYER.match(name)
            of_layer = layer[0] if layer else ""

            def hook(
                _: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any
            ) -> None:
                calls[name] += 1
                made = output if isinstance(output, tuple) else (output,)
                if not all(isinstance(each, torch.Tensor) for each in made):
                    return
                outputs[of_layer] += 4 * sum(each.numel() for each in made)
                if len(inputs) != 1 or options or not isinstance(inputs[0], torch.Tensor):
                    return
                x = inputs[0]
                a_row_each = {len(x), x.shape[:-1].numel()}  # routers drop the axis of tokens
                if len(made) == 1 or all(len(each) in a_row_each for each in made):
                    first.setdefault(name, x)

            return hook

        hooks = [
            module.register_forward_hook(watch(name), with_kwargs=True)
            for name, module in model.named_modules()
            if not any(True for _ in module.children())
        ]
        try:
            output = model(**inputs, use_cache=False, output_hidden_states=True)
        finally:
            for hook in hooks:
                hook.remove()
        rows, tokens = inputs["input_ids"].shape
        shapes = {ids.shape for ids in inputs.values()}
        whole = frozenset(
            name
            for name, x in first.items()
            if calls[name] == 1
            and (
                (x.dim() > 2 and len(x) == rows)
                or x.shape in shapes
                # No batch axis; one token per row could also be a router's selection for an expert.
                or (x.dim() == 2 and len(x) == rows * tokens and tokens > 1)
            )
        )
        once = frozenset(name for name in whole if first[name].shape[:2] == (rows, 1))
        most = max(outputs.values(), default=0)
        return cls(whole, first, once, most // (rows * tokens)), output


_LAYER = re.compile(r".*?\.\d+(?=\.)")
"""The part of a module's name that identifies its layer."""


def with_tied_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the modules that share a parameter with another module."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)].append(name)
    return frozenset(name for names in owners.values() if len(names) > 1 for name in names)
