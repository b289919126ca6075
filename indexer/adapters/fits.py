"""How adapters fit a base: the places of their tensors, found once for all that are alike."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

from hubdelta.crawler.safetensors_header import Tensor
from hubdelta.indexer.adapters.adapter_config import MLX, OWN_SETTINGS, AdapterConfig
from hubdelta.indexer.adapters.adapter_names import AdapterNames, Placement
from hubdelta.indexer.adapters.chosen_weights import ChosenWeights
from hubdelta.indexer.adapters.compatibility import Shape, check_fit, check_ranks
from hubdelta.indexer.adapters.layer_replication import check_layer_count, replicated_names
from hubdelta.indexer.adapters.patterns import check_patterns
from hubdelta.indexer.base_structure import BaseStructure

_MOST_KEPT = 100


@dataclass(frozen=True)
class Fit:
    """How adapters of one layout and like settings fit the base.

    Attributes:
        placement: of the first of them.
        config: of the first of them.
        memory_bytes: the space that its tensors take in memory.
        needed_bytes: how much of its weight files they are.
    """

    placement: Placement
    config: AdapterConfig
    memory_bytes: int
    needed_bytes: int

    def of(self, config: AdapterConfig) -> "Fit":
        """The same for another adapter with this config."""
        if self.placement.config is self.config:
            return replace(self, placement=replace(self.placement, config=config))
        own = {key: config.values[key] for key in OWN_SETTINGS & config.values.keys()}
        kept = {k: v for k, v in self.placement.config.values.items() if k not in OWN_SETTINGS}
        placed = replace(self.placement.config, values=kept | own)
        return replace(self, placement=replace(self.placement, config=placed))


class Fits:
    """Finds how adapters fit one base; called from several threads at once.

    Args:
        base: the base, with or without weights.
    """

    def __init__(self, base: BaseStructure) -> None:
        self._base = base
        self._names = AdapterNames(base)
        self._known: dict[Hashable, Fit] = {}

    def of(self, config: AdapterConfig, weights: ChosenWeights) -> Fit:
        """How an adapter fits, by the headers of its files, or as one like it did before.

        Raises:
            AdapterError: it does not fit, and why.
        """
        headers = list((weights.headers or {}).values())
        if len(headers) != 1 or config.peft_type == MLX:  # whose settings are made from its tensors
            return self._new(config, weights)
        key = headers[0].layout, config.likeness
        if (known := self._known.get(key)) is not None:
            return known.of(config)
        fit = self._new(config, weights)
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[key] = fit
        return fit

    def place(self, config: AdapterConfig, saved: Mapping[str, Shape]) -> Placement:
        """Find the places of an adapter's tensors in the base, and check that they fit there.

        Args:
            config: the adapter's.
            saved: name of a tensor in its files → shape.

        Raises:
            AdapterError: they do not, and why.
        """
        placement = self._names.place(config, saved)
        shapes = placement.shapes(saved)
        # Tensors of the output layer alone change nothing. BD-LoRA's factors are blocks on a
        # matrix's diagonal, which PEFT checks when it loads them.
        if (shapes or not saved) and not config.values.get("use_bdlora"):
            check_fit(shapes, self._base.shapes, placement.parameters)
        check_ranks(placement.config, {**saved, **shapes})
        check_layer_count(config, self._base, shapes)
        check_patterns(config, tuple(replicated_names(config, self._base)))
        return placement

    def _new(self, config: AdapterConfig, weights: ChosenWeights) -> Fit:
        tensors = weights.tensors
        placement = self.place(config, {name: tensor.shape for name, tensor in tensors.items()})
        needed = [tensor for name, tensor in tensors.items() if name in placement.names]
        memory_bytes = sum(map(_held_bytes, needed))
        return Fit(placement, config, memory_bytes, sum(tensor.bytes for tensor in needed))


def _held_bytes(tensor: Tensor) -> int:
    """The size of a tensor once read: fp8 becomes fp32, others stay as stored."""
    return tensor.bytes * (4 if tensor.dtype.startswith("F8_") else 1)
