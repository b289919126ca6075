"""The hidden state before a layer, caught on its way through a model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hubdelta.indexer.base_structure import is_of_other_media
from hubdelta.schemas.errors import HubdeltaError


class _CaughtError(Exception):
    """The state is there, and what comes after it is not needed."""


def layer_count(config: Any) -> int:
    """How many transformer layers a model of a transformers config has."""
    return int(config.get_text_config(decoder=True).num_hidden_layers)


def layers_of(model: nn.Module, count: int) -> nn.ModuleList:
    """The transformer layers that a text passes through.

    Args:
        model: a transformers model, or the part of it below its head.
        count: how many there are.

    Raises:
        HubdeltaError: the model has no such list.
    """
    for name, module in model.named_modules():  # outer lists come before those of experts
        if not isinstance(module, nn.ModuleList) or is_of_other_media(name):
            continue
        if len(module) == count:
            return module
    raise HubdeltaError("the base's layers cannot be told apart: read its last layer")


def state_given(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The hidden states [rows, tokens, hidden] among the arguments of a layer.

    Raises:
        HubdeltaError: there are several for each token, as in Gemma 3n.
    """
    states: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    if states.dim() != 3:
        raise HubdeltaError(
            "the base has several hidden states for each token between layers: read its last layer"
        )
    return states


@contextmanager
def caught_before(layer: nn.Module | None, *, stop: bool) -> Iterator[list[torch.Tensor]]:
    """Catch the hidden states [rows, tokens, hidden] that a layer is given.

    Args:
        layer: the layer; None catches nothing.
        stop: leave the block there and then.
    """
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(state_given(args, kwargs))
        if stop:
            raise _CaughtError

    if layer is None:
        yield seen
        return
    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield seen
    except _CaughtError:
        pass
    finally:
        hook.remove()
