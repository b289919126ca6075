"""The experts of a mixture, adapted differently in each row of the batch.

The weights of all experts are one parameter [experts, ., .], and each token goes to the experts
that its router chose. All adapters' tokens for an expert share the product with its weight; a
low-rank product that is masked to each token's own adapter is added.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import nn

from hubdelta.indexer.engines.edits.edits import Edit, ExpertsEdit, LowRankExperts
from hubdelta.indexer.engines.edits.structure import structural_copy
from hubdelta.indexer.engines.stacked.layers import only
from hubdelta.indexer.engines.stacked.shortcuts import same


@dataclass(frozen=True)
class _Call:
    """How a module of experts was called, and what it returned."""

    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    output: Any


@dataclass(frozen=True)
class _Stack:
    """A batch's products beside one parameter.

    Attributes:
        down: [experts, adapters · rank, in_features].
        up: [experts, adapters · rank, out_features], scaled.
    """

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True)
class ExpertsStack:
    """What a batch changes at a module of experts.

    Attributes:
        adapters: how many.
        products: by the parameter's name.
    """

    adapters: int
    products: Mapping[str, _Stack]


@dataclass(frozen=True)
class _Tokens:
    """Tokens in the order of the experts that they go to.

    Attributes:
        x: [pairs of token and expert, features].
        counts: how many pairs each expert has.
        owner: the adapter of each pair's token, int64 [pairs].
    """

    x: torch.Tensor
    counts: Sequence[int]
    owner: torch.Tensor


class StackedExperts:
    """Stands in for the forward pass of a module of experts.

    Args:
        module: the module; see `experts_of` for those that it can stand in for.
    """

    def __init__(self, module: nn.Module) -> None:
        # The class's own pass over copies of the modules, since `module.forward` is replaced.
        self._module: Any = structural_copy(module)
        self._arguments = inspect.signature(self._module.forward)
        self._is_routed = len(self._arguments.parameters) == 3
        # Llama 4's, which are not routed, do not say so.
        self._is_transposed = getattr(module, "is_transposed", not self._is_routed)
        first = "gate_up_proj" if getattr(module, "has_gate", True) else "up_proj"
        self._first, self._second = first, "down_proj"
        self._stack: ExpertsStack | None = None

    def prepare(
        self, edits: Sequence[Edit | None], dtype: torch.dtype, *, of_differences: bool
    ) -> ExpertsStack:
        """Stack a batch's edits for later use, in fp32: tokens differ in their experts."""
        some = [edit.products if edit else {} for edit in only(ExpertsEdit, edits)]
        names = sorted({name for products in some for name in products})
        stacks = {name: self._stacked(name, [each.get(name) for each in some]) for name in names}
        return ExpertsStack(len(some), stacks)

    def use(self, prepared: ExpertsStack | None) -> None:
        """Use a batch's stack; None for the base's own experts."""
        self._stack = prepared

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """The module's output for the tokens of each adapter."""
        if self._stack is None:
            return self._module(*arguments, **options)
        return self._own(self._arguments.bind(*arguments, **options).args)

    def computes(self, call: "_Call", tokens: int) -> bool:
        """Whether this computes what the module did.

        Args:
            call: of the module.
            tokens: of the pass; of others it could not tell to which adapter they belong.
        """
        given = self._arguments.bind(*call.arguments, **call.options).args
        if len(given[0]) != (tokens if self._is_routed else tokens * self._experts):
            return False
        return isinstance(call.output, torch.Tensor) and same(self._own(given), call.output)

    def _own(self, given: Sequence[Any]) -> torch.Tensor:
        return self.routed(*given) if self._is_routed else self.of_all(*given)

    def routed(self, x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The weighted sum of each token's experts.

        Args:
            x: [tokens, features].
            chosen: the experts of each token, int64 [tokens, k].
            weights: of these, [tokens, k].
        """
        tokens, k = chosen.shape
        order = torch.argsort(chosen.flatten(), stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=self._experts)
        token = order // k
        y = self._expert_outputs(_Tokens(x[token], counts.tolist(), self._owner(token, tokens)))
        weighted = torch.empty_like(y)
        weighted[order] = y * weights.flatten()[order].unsqueeze(1).to(y)
        return weighted.view(tokens, k, -1).sum(1).to(x.dtype)

    def of_all(self, x: torch.Tensor) -> torch.Tensor:
        """Every expert of every token, as in Llama 4, which scales the inputs instead.

        Args:
            x: [experts · tokens, features], expert by expert.
        """
        tokens = len(x) // self._experts
        token = torch.arange(len(x), device=x.device) % tokens
        owner = self._owner(token, tokens)
        return self._expert_outputs(_Tokens(x, [tokens] * self._experts, owner))

    @property
    def _experts(self) -> int:
        return len(getattr(self._module, self._second))

    def _owner(self, token: torch.Tensor, tokens: int) -> torch.Tensor:
        """The adapter to which each token belongs: a batch holds them adapter by adapter."""
        return token // (tokens // (self._stack.adapters if self._stack else 1))

    def _expert_outputs(self, tokens: _Tokens) -> torch.Tensor:
        """The output of its expert for each pair [pairs, features]."""
        outputs = []
        starts = torch.tensor([0, *tokens.counts]).cumsum(0).tolist()
        for expert, count in enumerate(tokens.counts):
            if count:
                pairs = slice(starts[expert], starts[expert] + count)
                owner = tokens.owner[pairs]
                inner = self._activated(self._product(self._first, expert, tokens.x[pairs], owner))
                outputs.append(self._product(self._second, expert, inner, owner))
        y = torch.cat(outputs)
        if getattr(self._module, "has_post_expert_norm", False):
            normed: torch.Tensor = self._module.post_expert_norm(y)
            return normed
        return y

    def _product(
        self, name: str, expert: int, x: torch.Tensor, owner: torch.Tensor
    ) -> torch.Tensor:
        """An expert's product with one of its weights, as each token's adapter changes it."""
        weight = getattr(self._module, name)[expert].to(x.dtype)
        biases = getattr(self._module, f"{name}_bias", None)
        bias = None if biases is None else biases[expert].to(x.dtype)
        y = F.linear(x, weight.T if self._is_transposed else weight, bias)
        if self._stack is not None and name in self._stack.products:
            stack, adapters = self._stack.products[name], self._stack.adapters
            inner = F.linear(x, stack.down[expert]).view(len(x), adapters, -1)
            own = F.one_hot(owner, adapters).to(inner.dtype)
            y = y.addmm((inner * own.unsqueeze(2)).flatten(1), stack.up[expert])
        return y

    def _activated(self, x: torch.Tensor) -> torch.Tensor:
        if not getattr(self._module, "has_gate", True):
            return self._module.act_fn(x)  # type: ignore[no-any-return]
        if hasattr(self._module, "_apply_gate"):
            return self._module._apply_gate(x)  # type: ignore[no-any-return]
        gate, up = x.chunk(2, dim=-1)
        return up * self._module.act_fn(gate)  # type: ignore[no-any-return]

    def _stacked(self, name: str, products: Sequence[LowRankExperts | None]) -> _Stack:
        """The products of a batch beside one parameter, padded to the largest rank."""
        weight = getattr(self._module, name)
        experts = len(weight)
        features = weight.shape[1:] if self._is_transposed else weight.shape[:0:-1]
        rank = max(product.rank for product in products if product is not None)
        size = experts, len(products), rank
        down = torch.zeros(*size, features[0], device=weight.device)
        up = torch.zeros(*size, features[1], device=weight.device)
        for place, product in enumerate(products):
            if product is not None:
                left, right = product.left.to(weight.device), product.right.to(weight.device)
                # x P or x Pᵀ, where P changes by left · right
                first, second = (left.mT, right) if self._is_transposed else (right, left.mT)
                down[:, place, : product.rank] = first
                up[:, place, : product.rank] = product.scale * second.float()
        return _Stack(down.flatten(1, 2), up.flatten(1, 2))


def experts_of(module: nn.Module) -> StackedExperts | None:
    """What may stand in for a module of experts; None if it is no such module.

    Transformers' classes share an interface (integrations/moe.py), by which they take (tokens,
    chosen experts, their weights); Llama 4's take tokens alone.
    """
    experts = getattr(module, "down_proj", None)
    if not isinstance(experts, nn.Parameter) or experts.dim() != 3:
        return None
    first = "gate_up_proj" if getattr(module, "has_gate", True) else "up_proj"
    weight = getattr(module, first, None)
    if not isinstance(weight, nn.Parameter) or len(weight) != len(experts):
        return None
    arguments = len(inspect.signature(module.forward).parameters)
    return StackedExperts(module) if arguments in (1, 3) else None


class WatchedExperts:
    """Modules of experts whose calls are recorded while a model runs.

    Args:
        model: a transformers model without a head.
    """

    def __init__(self, model: nn.Module) -> None:
        found = ((name, module, experts_of(module)) for name, module in model.named_modules())
        self._found = {name: (module, made) for name, module, made in found if made is not None}
        self._calls: dict[str, list[_Call]] = {name: [] for name in self._found}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record the calls of one forward pass."""

        def recorder(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, arguments: Any, options: Any, output: Any) -> None:
                self._calls[name].append(_Call(arguments, options, output))

            return hook

        hooks = [
            module.register_forward_hook(recorder(name), with_kwargs=True)
            for name, (module, _) in self._found.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def standins(self, tokens: int) -> dict[str, StackedExperts]:
        """Those that compute what the modules did, by the modules' names.

        Args:
            tokens: of the pass; a module that sees others cannot tell whose they are.
        """
        standins = {}
        for name, (_, standin) in self._found.items():
            calls = self._calls[name]
            if len(calls) == 1 and standin.computes(calls[0], tokens):
                standins[name] = standin
        return standins
