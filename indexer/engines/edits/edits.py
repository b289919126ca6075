"""How an adapter changes the modules of its base, in the few forms that batch well.

Every PEFT method of `support.UNDERSTOOD` comes down to these: a low-rank or Kronecker product
beside a dense layer or an expert, factors and biases around it, other rows of a table, other
parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class LowRank:
    """A product beside a dense layer's own: scale · up · down.

    Attributes:
        down: [rank, in_features].
        up: [out_features, rank].
        scale: factor of the product.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """R."""
        return self.down.shape[0]


@dataclass(frozen=True)
class Kronecker:
    """A product beside a dense layer's own: left ⊗ right.

    Attributes:
        left: [out_features / p, in_features / q].
        right: [p, q].
    """

    left: torch.Tensor
    right: torch.Tensor

    @classmethod
    def whole(cls, delta: torch.Tensor) -> "Kronecker":
        """A change of full rank, [out_features, in_features]: [[1]] ⊗ ΔW."""
        return cls(torch.ones(1, 1), delta)


@dataclass(frozen=True)
class DenseEdit:
    """A dense layer's y = W x + b, changed to y = out_scale ∘ (W' (in_scale ∘ x) + ΔW x) + b'.

    Attributes:
        low_rank: ΔW, or None.
        kronecker: ΔW, or None.
        magnitude: [out_features] of DoRA: out_scale is then magnitude / ‖W + ΔW‖ by rows
            (arXiv 2402.09353, equation 5), and does not touch b.
        in_scale: [in_features] or None.
        out_scale: [out_features] or None; scales b too, as IA3 does.
        weight: [out_features, in_features] in place of W, or None.
        bias: [out_features] in place of b, or None.
        more_bias: [out_features] beside b, or None.
    """

    low_rank: LowRank | None = None
    kronecker: Kronecker | None = None
    magnitude: torch.Tensor | None = None
    in_scale: torch.Tensor | None = None
    out_scale: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    more_bias: torch.Tensor | None = None


@dataclass(frozen=True)
class TableEdit:
    """Replaced rows of an embedding table.

    Attributes:
        rows: [tokens, columns]: the new row of each distinct token of the probes.
    """

    rows: torch.Tensor


@dataclass(frozen=True)
class ParameterEdit:
    """Replaced tensors of a module without children: a norm's weight and bias.

    Attributes:
        parameters: parameters and buffers, by name.
    """

    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LowRankExperts:
    """A product beside a parameter of experts: scale · left · right for each of them.

    Attributes:
        left: [experts, rows, rank].
        right: [experts, rank, columns].
        scale: factor of the product.
    """

    left: torch.Tensor
    right: torch.Tensor
    scale: float

    @property
    def rank(self) -> int:
        """R."""
        return self.left.shape[2]


@dataclass(frozen=True)
class ExpertsEdit:
    """Products beside the weights of a mixture's experts.

    Attributes:
        products: by the parameter's name.
    """

    products: Mapping[str, LowRankExperts]


Edit = DenseEdit | TableEdit | ParameterEdit | ExpertsEdit

Edits = Mapping[str, Edit]
"""Module name → what an adapter changes there."""


def rank(edits: Edits) -> int:
    """The largest rank of any low-rank product of an adapter."""
    products = (edit.low_rank for edit in edits.values() if isinstance(edit, DenseEdit))
    return max((product.rank for product in products if product is not None), default=0)


def numbers(edits: Edits) -> int:
    """How many numbers an adapter's edits hold."""
    return sum(tensor.numel() for edit in edits.values() for tensor in _tensors(edit))


def _tensors(edit: Edit) -> list[torch.Tensor]:
    if isinstance(edit, TableEdit):
        return [edit.rows]
    if isinstance(edit, ParameterEdit):
        return list(edit.parameters.values())
    if isinstance(edit, ExpertsEdit):
        return [factor for each in edit.products.values() for factor in (each.left, each.right)]
    products = [edit.low_rank.down, edit.low_rank.up] if edit.low_rank else []
    products += [edit.kronecker.left, edit.kronecker.right] if edit.kronecker else []
    whole = (edit.magnitude, edit.in_scale, edit.out_scale, edit.weight, edit.bias, edit.more_bias)
    return products + [tensor for tensor in whole if tensor is not None]
