"""Forward passes of single modules in which each row of the batch has a different adapter.

A batch holds the same probes once per adapter, adapter by adapter, so the first dimension of a
module's input splits into [adapters, rows of one adapter].
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn
from torch.utils._pytree import tree_map

from hubdelta.indexer.engines.edits.edits import DenseEdit, Edit, ParameterEdit, TableEdit
from hubdelta.indexer.engines.edits.structure import dense_parameters, structural_copy
from hubdelta.indexer.engines.stacked.arithmetic import Arithmetic, OwnProduct
from hubdelta.indexer.engines.stacked.rows import Ends
from hubdelta.indexer.engines.stacked.stacks import DenseLayer, DenseStack

E = TypeVar("E", bound=Edit)


def _kronecker_product(x: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(left ⊗ right) x for each row, factor by factor.

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
        layer: its weight and bias.
        last_token_only: compute only the last token of each row; see `shortcuts`.
    """

    def __init__(self, module: nn.Module, arithmetic: Arithmetic, ends: Ends) -> None:
        self.layer = DenseLayer.of(*dense_parameters(module))
        self.last_token_only = False
        self._arithmetic, self._ends = arithmetic, ends
        self._stack: DenseStack | None = None
        self._narrow: torch.Tensor | None = None

    def prepare(
        self, edits: Sequence[Edit | None], dtype: torch.dtype, *, of_differences: bool
    ) -> DenseStack:
        """Stack a batch's edits for use later; may run beside another batch's pass."""
        return DenseStack.of(only(DenseEdit, edits), self.layer, dtype, of_differences)

    def hold(self, dtype: torch.dtype) -> None:
        """Keep the weight in a narrow type too, so that no pass has to cast it."""
        self._narrow = self.layer.weight.to(dtype)

    def use(self, prepared: DenseStack | None) -> None:
        """Use a batch's stack; None for the base's own layer."""
        self._stack = prepared

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output for x for each adapter."""
        if self.last_token_only:
            x = self._ends.of(x)
        own = self._arithmetic.known.get(self)
        if own is not None and x.numel() == self._arithmetic.adapters * own.x.numel():
            return self._from_base(x, own).view(*x.shape[:-1], -1)
        y = self._product(x) if self._stack is None else self._stacked(x, self._stack)
        self._arithmetic.record(self, x, y)
        return y

    def _from_base(self, x: torch.Tensor, own: OwnProduct) -> torch.Tensor:
        """The output [adapters, rows, out_features] from the base's own and the difference."""
        arithmetic, stack = self._arithmetic, self._stack
        if stack is None or stack.in_scale is None:
            rows, less = x, arithmetic.difference(x, own)
        else:
            rows = x.reshape(stack.adapters, -1, self.layer.in_features) * stack.in_scale
            less = (rows - own.x).to(arithmetic.dtype)
        weight = self.layer.weight if self._narrow is None else self._narrow
        y = F.linear(less, weight.to(arithmetic.dtype))
        if stack is None:
            return y.float().add_(own.y)
        self._add_changes(
            y, arithmetic.cast(rows).reshape(stack.adapters, -1, rows.shape[-1]), stack
        )
        y = y.float().add_(own.y)
        if stack.out_scale is not None:
            y *= stack.out_scale
        if stack.more_bias is not None:
            y += stack.more_bias
        return y

    def _product(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """W x + b in the dtype of x, perhaps with another weight in place of W."""
        bias = None if self.layer.bias is None else self.layer.bias.to(x.dtype)
        return F.linear(x, (self.layer.weight if weight is None else weight).to(x.dtype), bias)

    def _stacked(self, x: torch.Tensor, stack: DenseStack) -> torch.Tensor:
        """The output for the input [adapters · rows, (tokens,) in_features]."""
        layer = self.layer
        rows = x.reshape(stack.adapters, -1, layer.in_features)
        if stack.in_scale is not None:
            rows = (rows * stack.in_scale).to(x.dtype)
        y = self._product(rows)
        for place, weight in stack.weights.items():
            y[place] = self._product(rows[place], weight)
        self._add_changes(y, rows, stack)
        if stack.out_scale is not None:
            y *= stack.out_scale
        if stack.more_bias is not None:
            y += stack.more_bias
        return y.view(*x.shape[:-1], layer.out_features)

    @staticmethod
    def _add_changes(y: torch.Tensor, rows: torch.Tensor, stack: DenseStack) -> None:
        """Add ΔW x of each adapter to y [adapters, rows, out_features]."""
        if stack.down is not None and stack.up is not None:
            y.baddbmm_(torch.bmm(rows, stack.down.mT), stack.up.mT)
        for places, left, right in stack.kroneckers:
            y[places] += _kronecker_product(rows[places], left, right)
        for place, change in stack.weight_changes.items():
            y[place] += F.linear(rows[place], change)


class StackedTable:
    """Stands in for the forward pass of a token embedding.

    Args:
        module: the embedding.
        tokens: distinct token ids of the probes, sorted, int64 [tokens].
    """

    def __init__(self, module: nn.Embedding, tokens: torch.Tensor) -> None:
        self._module = structural_copy(module)
        self._module.padding_idx = None  # refers to the whole table; only gradients need it
        self._tokens = tokens
        self._own_rows = module.weight.detach()[tokens].float()
        self._own_table = self._put_out([self._own_rows])
        self._tables = self._own_table

    def prepare(
        self, edits: Sequence[Edit | None], dtype: torch.dtype, *, of_differences: bool
    ) -> torch.Tensor:
        """A batch's tables [adapters, tokens, columns] for use later, as the module scales them."""
        own = self._own_rows
        tables = only(TableEdit, edits)
        return self._put_out([own if edit is None else edit.rows.to(own) for edit in tables])

    def use(self, prepared: torch.Tensor | None) -> None:
        """Use a batch's tables; None for the base's own."""
        self._tables = self._own_table if prepared is None else prepared

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of the tokens [rows, tokens] in each adapter's table."""
        if len(self._tables) == 1:
            return self._tables[0, torch.searchsorted(self._tokens, ids)]
        places = torch.searchsorted(self._tokens, ids[: len(ids) // len(self._tables)])
        return self._tables[:, places].flatten(0, 1)

    def _put_out(self, tables: Sequence[torch.Tensor]) -> torch.Tensor:
        """The module's own output, which may be scaled, for each row of each table."""
        order = torch.arange(len(self._tokens), device=self._tokens.device)
        call = torch.func.functional_call
        return torch.stack([call(self._module, {"weight": rows}, (order,)) for rows in tables])


def table_of(module: nn.Embedding, tokens: torch.Tensor, seen: torch.Tensor) -> StackedTable | None:
    """A forward pass for a token embedding; None for one of positions, which BART calls alike.

    Args:
        module: an embedding that is called with token ids.
        tokens: as for `StackedTable`.
        seen: some of those, int64 [rows, tokens].
    """
    try:
        table = StackedTable(module, tokens)
    except (ValueError, IndexError, RuntimeError):
        return None
    return table if torch.equal(table(seen), module(seen)) else None


class StackedParameters:
    """Stands in for the forward pass of any module without children, such as a norm.

    Args:
        module: the module.
        ends: of the rows that it sees.
        forward: its forward pass, or a faster equivalent.

    Attributes:
        last_token_only: compute the last token of each row alone; see `shortcuts`.
    """

    def __init__(
        self,
        module: nn.Module,
        ends: Ends,
        forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._ends = ends
        self._module = structural_copy(module)
        # Copied here, since a pass in another thread replaces them with a batch's.
        own = chain(module.named_parameters(), module.named_buffers())
        self._own = {name: tensor.detach() for name, tensor in own}
        self._forward = forward or self._module
        self._stacked: tuple[int, dict[str, torch.Tensor]] | None = None
        self.last_token_only = False

    def prepare(
        self, edits: Sequence[Edit | None], dtype: torch.dtype, *, of_differences: bool
    ) -> tuple[int, dict[str, torch.Tensor]]:
        """A batch's parameters for later use: the number of adapters, and each [adapters, ...]."""
        changes = [edit.parameters if edit else {} for edit in only(ParameterEdit, edits)]
        return len(edits), {
            name: torch.stack([change.get(name, tensor).to(tensor) for change in changes])
            for name, tensor in self._own.items()
        }

    def use(self, prepared: tuple[int, dict[str, torch.Tensor]] | None) -> None:
        """Use a batch's parameters; None for the base's own."""
        self._stacked = prepared

    def __call__(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The module's output for x for each adapter; a router's are several."""
        if self.last_token_only:
            x = self._ends.of(x)
        if self._stacked is None:
            return self._forward(x)

        def one(parameters: dict[str, torch.Tensor], rows: torch.Tensor) -> Any:
            return torch.func.functional_call(self._module, parameters, (rows,))

        adapters, parameters = self._stacked
        rows = x.reshape(adapters, -1, *x.shape[1:])
        y = torch.vmap(one)(parameters, rows)
        return tree_map(lambda each: each.flatten(0, 1), y)  # type: ignore[no-any-return]


def only(kind: type[E], edits: Sequence[Edit | None]) -> list[E | None]:
    """Edits that are all of one kind.

    Raises:
        TypeError: one of them is not.
    """
    for edit in edits:
        if edit is not None and not isinstance(edit, kind):
            raise TypeError(f"a {type(edit).__name__} where only {kind.__name__} fits")
    return [edit for edit in edits if edit is None or isinstance(edit, kind)]
