"""In which type the matrix products of a pass run, and from where they start."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class OwnProduct:
    """A dense layer's product in the base itself, in fp32: y_b = W x_b + b.

    Attributes:
        x: [1, tokens of all rows, in_features].
        y: [1, tokens of all rows, out_features].
    """

    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Arithmetic:
    """How the matrix products of the pass that is running are computed.

    All adapters see the same tokens. Where the base's own products of these are known, only
    W (x - x_b) is computed in a narrow type, and y_b is added in fp32: the type's rounding is then
    relative to what the adapter changes, not to the activations. What is between the products is
    fp32, always.

    Attributes:
        dtype: of the factors of those products.
        adapters: how many share the pass.
        known: dense layer → its product in the base, for the rows of the pass; empty where all
            products run in fp32.
    """

    dtype: torch.dtype = torch.float32
    adapters: int = 1
    known: Mapping[object, OwnProduct] = field(default_factory=dict)
    _recorded: dict[object, OwnProduct] | None = None
    _last_kept: tuple[torch.Tensor, torch.Tensor] | None = None
    _last: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    _last_cast: tuple[torch.Tensor, torch.Tensor] | None = None

    @contextmanager
    def recording(self) -> Iterator[dict[object, OwnProduct]]:
        """Keep the products of a pass of the base alone while this lasts."""
        found: dict[object, OwnProduct] = {}
        self._recorded = found
        try:
            yield found
        finally:
            self._recorded = self._last_kept = None

    def record(self, layer: object, x: torch.Tensor, y: torch.Tensor) -> None:
        """Keep a product where products are recorded, whatever the model does to x and y later."""
        if self._recorded is None:
            return
        if self._last_kept is None or self._last_kept[0] is not x:
            self._last_kept = (x, x.reshape(1, -1, x.shape[-1]).clone())
        self._recorded[layer] = OwnProduct(
            self._last_kept[1], y.reshape(1, -1, y.shape[-1]).clone()
        )

    def difference(self, x: torch.Tensor, own: OwnProduct) -> torch.Tensor:
        """What x has beside x_b, in the narrow type; siblings such as q, k and v share it.

        Args:
            x: fp32, of each adapter.
            own: the layer's product in the base.

        Returns:
            [adapters, tokens of all rows, in_features].
        """
        if self._last is None or self._last[0] is not x or self._last[1] is not own.x:
            rows = x.reshape(self.adapters, *own.x.shape[1:])
            self._last = (x, own.x, (rows - own.x).to(self.dtype))
        return self._last[2]

    def cast(self, x: torch.Tensor) -> torch.Tensor:
        """An input in the narrow type; siblings share the cast."""
        if x.dtype == self.dtype:
            return x
        if self._last_cast is None or self._last_cast[0] is not x:
            self._last_cast = (x, x.to(self.dtype))
        return self._last_cast[1]

    def forget(self) -> None:
        """Let go of the last input."""
        self._last = self._last_cast = None
