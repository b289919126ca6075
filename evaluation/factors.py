"""LoRA factors of many adapters on disk, read a layer at a time.

Memory then holds one adapter while they are written, and a few layers of a few adapters afterwards,
however many adapters there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.peft_config import peft_config, tensors_that_count
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.indexer.engines.edits.site import Site
from hubdelta.indexer.engines.edits.support import is_exact

_A, _B = ".lora_A.weight", ".lora_B.weight"
_NUMBER: Final = np.dtype(np.float32)

LARGEST_BLOCK: Final = 2**28
"""Bytes of what is computed with at once, by default."""


@dataclass(frozen=True)
class Factors:
    """LoRA's factors at one linear layer: its weights change by scale · up · down.

    Attributes:
        down: A, [rank, in_features], fp32.
        up: B, [out_features, rank], fp32.
        scale: alpha / rank or, for rsLoRA, alpha / √rank.
    """

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    scale: float


class Layer(NamedTuple):
    """A linear layer that an adapter changes.

    Attributes:
        out_features: of the layer.
        in_features: of the layer.
        rank: of the factors.
        scale: of their product.
    """

    out_features: int
    in_features: int
    rank: int
    scale: float

    @property
    def numbers(self) -> int:
        """How many numbers the factors have."""
        return self.rank * (self.out_features + self.in_features)


@dataclass(frozen=True)
class Read:
    """An adapter's factors in memory.

    Attributes:
        layers: module name → factors; empty if it has none.
        beside: what else it changes, in a word or two; None if the factors are all of it.
    """

    layers: Mapping[str, Factors]
    beside: str | None


def read_factors(adapter: Adapter, base: BaseStructure) -> Read:
    """The factors of an adapter at the base's linear layers.

    Raises:
        AdapterError: unsupported_adapter: the installed PEFT does not know all its settings.
    """
    if isinstance(adapter, FullFinetune) or adapter.config.peft_type != "LORA":
        return Read({}, "no LoRA factors")
    config = peft_config(adapter.config, base)
    tensors = tensors_that_count(adapter, base)
    linear = {n for n, module in base.model.named_modules() if not isinstance(module, nn.Embedding)}
    modules = [name.removeprefix(PREFIX).removesuffix(_A) for name in tensors if name.endswith(_A)]
    layers = {}
    for module in sorted(modules):
        down, up = tensors[f"{PREFIX}{module}{_A}"], tensors.get(f"{PREFIX}{module}{_B}")
        if up is not None and module in base.shapes and module in linear:
            site = Site(module, nn.Identity(), {}, tensors, config)
            _, scale = site.rank_and_scale()
            layers[module] = Factors(_numbers(down), _numbers(up), scale)
    beside = None
    if adapter.config.values.get("use_dora"):
        beside = "DoRA's magnitudes"
    elif len(tensors) > 2 * len(layers):
        beside = "more than linear layers"
    elif not is_exact(adapter.config):
        beside = "settings that change the base's weights or the product"
    return Read(layers, beside)


def _numbers(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.float().contiguous().numpy()


@dataclass
class FactorStore:
    """Factors of adapters in files of a folder, a file for each adapter.

    Attributes:
        folder: for files of its own; the caller removes it.
        largest_block: bytes that `tiles` keeps to.
    """

    folder: Path
    largest_block: int = LARGEST_BLOCK
    _files: dict[str, Path] = field(default_factory=dict)
    _starts: dict[str, dict[str, int]] = field(default_factory=dict)
    _layers: dict[str, dict[str, Layer]] = field(default_factory=dict)
    _beside: dict[str, str | None] = field(default_factory=dict)

    def add(self, adapter: str, factors: Read) -> None:
        """Write an adapter's factors.

        Raises:
            OSError: no space, no permission.
        """
        starts, layers, start = {}, {}, 0
        path = self.folder / f"{len(self._files)}.f32"
        with path.open("wb") as file:
            for module, own in factors.layers.items():
                rank, in_features = own.down.shape
                layer = Layer(own.up.shape[0], in_features, rank, own.scale)
                own.down.tofile(file)
                own.up.tofile(file)
                starts[module], layers[module] = start, layer
                start += layer.numbers * _NUMBER.itemsize
        self._files[adapter] = path
        self._starts[adapter], self._layers[adapter] = starts, layers
        self._beside[adapter] = factors.beside

    def layers(self, adapter: str) -> Mapping[str, Layer]:
        """The layers that an adapter changes, by their modules' names."""
        return self._layers[adapter]

    def beside(self, adapter: str) -> str | None:
        """What else an adapter changes; None if its factors are all of it."""
        return self._beside[adapter]

    def modules(self, adapters: Sequence[str]) -> list[str]:
        """The layers that some of the adapters change, sorted."""
        return sorted({module for adapter in adapters for module in self._layers[adapter]})

    def read(self, adapter: str, module: str) -> Factors:
        """The factors at one layer that the adapter changes."""
        start, layer = self._starts[adapter][module], self._layers[adapter][module]
        file = self._files[adapter]
        numbers = np.fromfile(file, _NUMBER, count=layer.numbers, offset=start)
        down, up = np.split(numbers, [layer.rank * layer.in_features])
        return Factors(
            down.reshape(layer.rank, layer.in_features),
            up.reshape(layer.out_features, layer.rank),
            layer.scale,
        )

    def tiles(self, adapters: Sequence[object], each_bytes: int) -> Iterator[slice]:
        """Adapters in runs of as many as fit into half a block.

        Args:
            adapters: the adapters.
            each_bytes: what one of them takes.
        """
        at_once = max(1, self.largest_block // 2 // max(each_bytes, 1))
        for start in range(0, len(adapters), at_once):
            yield slice(start, min(start + at_once, len(adapters)))
