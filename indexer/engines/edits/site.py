"""One module of the base with an adapter's tensors for it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import peft
import torch
from peft.utils.other import get_pattern_key
from torch import nn

from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.schemas.errors import AdapterError, Reason

Tensors = Mapping[str, torch.Tensor]

VERA_A, VERA_B = "base_model.vera_A", "base_model.vera_B"
"""The projections shared by all layers of a VeRA adapter."""

VBLORA_BANK = "base_model.vblora_vector_bank"
"""The vectors of which all layers of a VB-LoRA adapter are made, [vectors, length]."""

RANDLORA_A, RANDLORA_B = "base_model.randlora_A", "base_model.randlora_B"
"""The random bases shared by all layers of a RandLoRA adapter."""

SHARED = frozenset({VERA_A, VERA_B, VBLORA_BANK, RANDLORA_A, RANDLORA_B})
"""Tensors that belong to no module."""


@dataclass(frozen=True)
class Site:
    """One module with an adapter's tensors for it.

    Attributes:
        name: of the module in the base.
        module: the base's.
        names: part of an edit → name of its tensor.
        tensors: all of the adapter's, by name.
        config: PEFT's configuration object.
    """

    name: str
    module: nn.Module
    names: Mapping[str, str]
    tensors: Tensors
    config: Any
    _read: set[str] = field(default_factory=set)

    def __contains__(self, part: str) -> bool:
        return part in self.names

    def __getitem__(self, part: str) -> torch.Tensor:
        """A part of any shape; raises AdapterError if it is missing."""
        if part not in self:
            raise self.misfit(part, ())
        self._read.add(part)
        return self.tensors[self.names[part]]

    def check_all_read(self) -> None:
        """Check that every part has been read, so that none is left out of an edit.

        Raises:
            AdapterError: engine: one has not; PEFT may know what it does.
        """
        unread = sorted(self.names.keys() - self._read)
        if unread:
            what = (
                f"tensor {self.names[unread[0]]} is not stacked on a {type(self.module).__name__}"
            )
            raise AdapterError(Reason.ENGINE, what)

    def shaped(self, part: str, shape: Iterable[int]) -> torch.Tensor:
        """A part, checked for its shape.

        Raises:
            AdapterError: it has another shape, or is missing.
        """
        tensor = self[part]
        if tensor.shape != tuple(shape):
            raise self.misfit(part, shape)
        return tensor

    def misfit(self, part: str, shape: Iterable[int]) -> AdapterError:
        """The error for a part that does not fit."""
        if part not in self:
            name = f"{PREFIX}{self.name}.{part}"
            return AdapterError(Reason.CORRUPT, f"tensor {name} is missing from the weights")
        return AdapterError(
            Reason.BASE_MISMATCH,
            f"tensor {self.names[part]} has shape {list(self[part].shape)}, where {list(shape)} "
            "is expected",
        )

    def rank(self) -> int:
        """The module's rank, after rank_pattern.

        Raises:
            AdapterError: it is below 1.
        """
        rank: int = self.config.r
        if ranks := self.config.rank_pattern:
            rank = ranks.get(get_pattern_key(ranks.keys(), self.name), rank)
        if rank < 1:
            raise AdapterError(Reason.CORRUPT, f"the rank of {self.name} is {rank}")
        return rank

    def rank_and_scale(self) -> tuple[int, float]:
        """Rank and scaling of the module, after rank_pattern, alpha_pattern and rsLoRA."""
        config, rank = self.config, self.rank()
        alpha = config.lora_alpha if config.peft_type == peft.PeftType.LORA else config.alpha
        if alphas := config.alpha_pattern:
            alpha = alphas.get(get_pattern_key(alphas.keys(), self.name), alpha)
        return rank, alpha / (math.sqrt(rank) if getattr(config, "use_rslora", False) else rank)

    def token_indices(self) -> list[int]:
        """The tokens of an embedding that have replaced rows."""
        if self.config.peft_type == peft.PeftType.TRAINABLE_TOKENS:
            return list(self.config.token_indices)
        indices = self.config.trainable_token_indices
        if isinstance(indices, Mapping):
            return list(indices[get_pattern_key(indices.keys(), self.name)])
        return list(indices)

    def own_weight(self) -> torch.Tensor:
        """The base's weight, [out_features, in_features] in fp32."""
        weight: torch.Tensor = self.module.weight.detach().cpu().float()  # type: ignore[operator]
        return weight if isinstance(self.module, nn.Linear) else weight.T
