"""Forward passes of single modules in which each row of the batch has its own adapter.

A batch holds the same probes once for each adapter, adapter after adapter, so the first dimension
of what a module sees splits into [adapters, rows of one adapter].
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (as everybody calls it)
from torch import nn

from hubdelta.indexer.stacked.edits import DenseEdit, ParameterEdit, TableEdit
from hubdelta.indexer.stacked.norms import row_norms
from hubdelta.indexer.stacked.structure import dense_parameters, structural_copy


@dataclass
class Arithmetic:
    """In which type the matrix products run; what is between them stays in fp32.

    Attributes:
        dtype: of the products' inputs and outputs.
    """

    dtype: torch.dtype = torch.float32
    _last: tuple[torch.Tensor, torch.Tensor] | None = None

    def cast(self, x: torch.Tensor) -> torch.Tensor:
        """An input in the type of the products; siblings such as q, k and v share one cast."""
        if x.dtype == self.dtype:
            return x
        if self._last is None or self._last[0] is not x:
            self._last = (x, x.to(self.dtype))
        return self._last[1]

    def forget(self) -> None:
        """Let go of the last input."""
        self._last = None


class DenseStack:
    """The edits of a batch at one dense layer, stacked.

    Args:
        edits: of each adapter, None where it leaves the layer alone.
        layer: the layer.
        dtype: of the products.
    """

    def __init__(
        self, edits: Sequence[DenseEdit | None], layer: "StackedDense", dtype: torch.dtype
    ) -> None:
        self._layer, self._dtype = layer, dtype
        self._adapters = len(edits)
        self._down, self._up = self._low_rank(edits)
        self._kroneckers = self._stack_kroneckers(edits)
        self._weights = {
            place: self._to(edit.weight)
            for place, edit in enumerate(edits)
            if edit is not None and edit.weight is not None
        }
        in_scales = [edit.in_scale if edit else None for edit in edits]
        self._in_scale = self._vectors(in_scales, torch.ones(layer.in_features))
        self._out_scale = self._out_scales(edits)
        self._bias = self._biases(edits)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output for the input [adapters · rows, (tokens,) in_features]."""
        layer = self._layer
        rows = x.reshape(self._adapters, -1, layer.in_features)
        if self._in_scale is not None:
            rows = rows * self._in_scale
        plain_bias = self._bias is None and self._out_scale is None and not self._weights
        y = layer.product(rows, with_bias=plain_bias)
        for place, weight in self._weights.items():
            torch.mm(rows[place], weight.T, out=y[place])
        if self._down is not None and self._up is not None:
            y.baddbmm_(torch.bmm(rows, self._down.mT), self._up.mT)
        for places, left, right in self._kroneckers:
            y[places] += _kronecker_product(rows[places], left, right)
        if self._out_scale is not None:
            y *= self._out_scale
        if self._bias is not None:
            y += self._bias
        elif not plain_bias and layer.bias is not None:
            y += layer.bias
        return y.view(*x.shape[:-1], layer.out_features)

    def _to(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._layer.weight.device, self._dtype)

    def _low_rank(
        self, edits: Sequence[DenseEdit | None]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Downs [adapters, rank, in] and scaled ups [adapters, out, rank], zeros where none is."""
        products = [edit.low_rank if edit else None for edit in edits]
        rank = max((product.rank for product in products if product), default=0)
        if not rank:
            return None, None
        layer, device = self._layer, self._layer.weight.device
        no_down, no_up = torch.zeros(1, layer.in_features), torch.zeros(layer.out_features, 1)
        downs = [product.down if product else no_down for product in products]
        ups = [product.up if product else no_up for product in products]
        down = torch.stack([_padded(d, rows=rank) for d in downs]).to(device, self._dtype)
        up = torch.stack([_padded(u, columns=rank) for u in ups]).to(device, torch.float32)
        scales = torch.tensor([product.scale if product else 0.0 for product in products])
        return down, (up * scales.to(device).view(-1, 1, 1)).to(self._dtype)

    def _stack_kroneckers(
        self, edits: Sequence[DenseEdit | None]
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Places of adapters whose factors have the same shapes, and their factors stacked."""
        places: dict[tuple[torch.Size, torch.Size], list[int]] = defaultdict(list)
        found = {}
        for place, edit in enumerate(edits):
            if edit is not None and edit.kronecker is not None:
                found[place] = edit.kronecker
                places[edit.kronecker.left.shape, edit.kronecker.right.shape].append(place)
        return [
            (
                torch.tensor(same, device=self._layer.weight.device),
                self._to(torch.stack([found[place].left for place in same])),
                self._to(torch.stack([found[place].right for place in same])),
            )
            for same in places.values()
        ]

    def _vectors(
        self, vectors: Sequence[torch.Tensor | None], default: torch.Tensor
    ) -> torch.Tensor | None:
        """Vectors [adapters, 1, features], the default where an adapter has none."""
        if all(vector is None for vector in vectors):
            return None
        default = self._to(default)
        return torch.stack(
            [default if vector is None else self._to(vector) for vector in vectors]
        ).unsqueeze(1)

    def _out_scales(self, edits: Sequence[DenseEdit | None]) -> torch.Tensor | None:
        ones = torch.ones(self._layer.out_features)
        given = self._vectors([edit.out_scale if edit else None for edit in edits], ones)
        magnitudes = [edit.magnitude if edit else None for edit in edits]
        dora = self._dora_scales(magnitudes)
        if given is None or dora is None:
            return dora if given is None else given
        return given * dora

    def _dora_scales(self, magnitudes: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        """Magnitude / ‖W + ΔW‖ of each row [adapters, 1, out], one where there is no magnitude."""
        if self._down is None or self._up is None or all(m is None for m in magnitudes):
            return None
        norms = row_norms(self._layer.weight.to(self._dtype), self._down, self._up)
        scales = [
            torch.ones_like(norm) if magnitude is None else magnitude.to(norm) / norm
            for norm, magnitude in zip(norms, magnitudes, strict=True)
        ]
        return self._to(torch.stack(scales)).unsqueeze(1)

    def _biases(self, edits: Sequence[DenseEdit | None]) -> torch.Tensor | None:
        """Each adapter's whole bias, where any has one of its own."""
        biases = [self._own_bias(edit) if edit else None for edit in edits]
        own = self._layer.bias
        default = torch.zeros(self._layer.out_features) if own is None else own
        return self._vectors(biases, default)

    def _own_bias(self, edit: DenseEdit) -> torch.Tensor | None:
        bias = self._layer.bias if edit.bias is None else edit.bias
        if edit.out_scale is not None and bias is not None:
            return bias.cpu().float() * edit.out_scale.float()
        if edit.more_bias is not None:
            return edit.more_bias.float() if bias is None else bias.cpu() + edit.more_bias.float()
        return edit.bias


def _padded(tensor: torch.Tensor, *, rows: int = 0, columns: int = 0) -> torch.Tensor:
    """A matrix with zeros added below and to the right, up to so many rows or columns."""
    more = (0, max(0, columns - tensor.shape[1]), 0, max(0, rows - tensor.shape[0]))
    return F.pad(tensor, more) if any(more) else tensor


def _kronecker_product(x: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(left ⊗ right) x of each row, factor by factor.

    Args:
        x: [adapters, rows, q·n].
        left: [adapters, m, n].
        right: [adapters, p, q].

    Returns:
        [adapters, rows, m·p].
    """
    adapters, rows, _ = x.shape
    n, q = left.shape[2], right.shape[2]
    inner = torch.bmm(x.reshape(adapters, rows * n, q), right.mT).view(adapters, rows, n, -1)
    return torch.matmul(left.unsqueeze(1), inner).flatten(2)


class StackedDense:
    """Stands in for the forward pass of a Linear or Conv1D.

    Attributes:
        weight: [out_features, in_features], a view.
        bias: [out_features] or None.
        last_token_only: compute the last token of each row alone; see `shortcuts`.
    """

    def __init__(self, module: nn.Module, arithmetic: Arithmetic) -> None:
        self.weight, self.bias = dense_parameters(module)
        self.out_features, self.in_features = map(int, self.weight.shape)
        self.last_token_only = False
        self._arithmetic = arithmetic
        self._stacked: DenseStack | None = None

    def stack(self, edits: Sequence[DenseEdit | None]) -> None:
        """Take the batch's edits."""
        self._stacked = DenseStack(edits, self, self._arithmetic.dtype)

    def clear(self) -> None:
        """Go back to the base's own layer."""
        self._stacked = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What the module makes of x for each adapter."""
        if self.last_token_only:
            x = x[..., -1:, :]
        x = self._arithmetic.cast(x)
        return self.product(x) if self._stacked is None else self._stacked(x)

    def product(self, x: torch.Tensor, *, with_bias: bool = True) -> torch.Tensor:
        """W x + b in the type of x."""
        bias = self.bias.to(x.dtype) if with_bias and self.bias is not None else None
        return F.linear(x, self.weight.to(x.dtype), bias)


class StackedTable:
    """Stands in for the forward pass of an embedding of tokens.

    Args:
        module: the embedding.
        tokens: distinct token ids of the probes, sorted, int64 [tokens].
    """

    def __init__(self, module: nn.Embedding, tokens: torch.Tensor) -> None:
        self._module = structural_copy(module, _itself)
        self._tokens = tokens
        self._own_rows = module.weight.detach()[tokens].float()
        self._tables = self._put_out([self._own_rows])

    def stack(self, edits: Sequence[TableEdit | None]) -> None:
        """Take the batch's tables."""
        own = self._own_rows
        self._tables = self._put_out([own if e is None else e.rows.to(own) for e in edits])

    def clear(self) -> None:
        """Go back to the base's table."""
        self._tables = self._put_out([self._own_rows])

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of the tokens [rows, tokens] in each adapter's table."""
        if len(self._tables) == 1:
            return self._tables[0, torch.searchsorted(self._tokens, ids)]
        places = torch.searchsorted(self._tokens, ids[: len(ids) // len(self._tables)])
        return self._tables[:, places].flatten(0, 1)

    def _put_out(self, tables: Sequence[torch.Tensor]) -> torch.Tensor:
        """What the module itself, which may scale them, puts out for each row of each table."""
        order = torch.arange(len(self._tokens), device=self._tokens.device)
        call = torch.func.functional_call
        return torch.stack([call(self._module, {"weight": rows}, (order,)) for rows in tables])


class StackedParameters:
    """Stands in for the forward pass of any module without children, such as a norm.

    Args:
        module: the module.
        forward: its forward pass, or a faster equal.

    Attributes:
        last_token_only: compute the last token of each row alone; see `shortcuts`.
    """

    def __init__(
        self, module: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        self._module = structural_copy(module, _itself)
        self._forward = forward or self._module
        self._stacked: dict[str, torch.Tensor] | None = None
        self._adapters = 0
        self.last_token_only = False

    def stack(self, edits: Sequence[ParameterEdit | None]) -> None:
        """Take the batch's parameters, the base's where an adapter has none."""
        self._adapters = len(edits)
        self._stacked = {
            name: torch.stack(
                [
                    edit.parameters[name].to(own)
                    if edit is not None and name in edit.parameters
                    else own.detach()
                    for edit in edits
                ]
            )
            for name, own in self._module.named_parameters()
        }

    def clear(self) -> None:
        """Go back to the base's parameters."""
        self._stacked = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What the module makes of x for each adapter."""
        if self.last_token_only:
            x = x[..., -1:, :]
        if self._stacked is None:
            return self._forward(x)

        def one(parameters: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.func.functional_call(self._module, parameters, (rows,))
            return y

        rows = x.reshape(self._adapters, -1, *x.shape[1:])
        y: torch.Tensor = torch.vmap(one)(self._stacked, rows)
        return y.reshape(x.shape)


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
