"""A model without weights, divided into units that get theirs one at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig, PreTrainedModel

from hubdelta.indexer.adapters.model_config import (
    config_error,
    model_config,
    text_config,
)
from hubdelta.indexer.base_structure import (
    LOADING_ERRORS,
    below_head,
    quiet_transformers,
    without_weights,
)
from hubdelta.schemas.errors import AdapterError, Reason


@dataclass(frozen=True, eq=False)
class Unit:
    """A part of a model whose weights are loaded and released together.

    Attributes:
        name: of the module.
        module: the module.
        tensors: full names of its parameters and saved buffers → the module that owns each.
        is_layer: whether it is one of a list of layers, which run in order.
    """

    name: str
    module: torch.nn.Module
    tensors: Mapping[str, torch.nn.Module]
    is_layer: bool


@dataclass(frozen=True)
class Skeleton:
    """A model whose parameters, except those of tables, are on the meta device, without memory.

    Attributes:
        model: with its output layer, which never runs.
        parts: what runs: the model below the output layer, or encoder and decoder.
    """

    model: PreTrainedModel
    parts: tuple[PreTrainedModel, ...]

    @classmethod
    def build(cls, config: Mapping[str, Any], device: str) -> "Skeleton":
        """A skeleton of the language model that a config.json describes, its buffers on a device.

        Raises:
            AdapterError: unsupported_adapter.
        """
        quiet_transformers()
        known = model_config({**config, "quantization_config": None})
        try:
            model = without_weights(_language_model(known))
        except LOADING_ERRORS as error:
            raise config_error(error) from error
        if getattr(model.config, "use_bidirectional_attention", None) in {True, "all"}:
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, "its attention is not causal")
        for module in model.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(device)
        if model.config.is_encoder_decoder:
            skeleton = cls(model, (model.get_encoder(), model.get_decoder()))
        else:
            skeleton = cls(model, (below_head(model)[0],))
        for name, table in skeleton.tables().items():
            # Some models read a table's device; NaN would show in answers if its values were used.
            nothing = torch.tensor(torch.nan, device=device).expand(table.shape)
            owner = model.get_submodule(name.removesuffix(".weight"))
            owner.weight = torch.nn.Parameter(nothing, requires_grad=False)
        return skeleton

    def depends_on_length(self, tokens: int) -> bool:
        """Whether this many tokens in a batch change positions, even for shorter texts.

        Dynamic and longrope scaling do past a limit: transformers.modeling_rope_utils.
        """
        config = self.model.config
        ropes = getattr(config, "rope_parameters", None) or {}
        for rope in (ropes, *(part for part in ropes.values() if isinstance(part, dict))):
            kind = rope.get("rope_type") or ""
            if "dynamic" not in kind and kind != "longrope":
                continue
            original = rope.get("original_max_position_embeddings")
            limits = [limit for limit in (original, config.max_position_embeddings) if limit]
            if tokens > min(limits, default=0):
                return True
        return False

    def units(self) -> list[Unit]:
        """All parts with weights except the tables, in the order of the model's names."""
        state = self.model.state_dict()
        owners = {
            full: module
            for name, module in self._modules()
            for own in (*module._parameters, *module._buffers)
            if (full := f"{name}.{own}") in state
        }
        units = []
        apart = set(self.tables())
        for name, layer in self._layers():
            tensors = {full: owners[full] for full in owners if full.startswith(f"{name}.")}
            if tensors:
                units.append(Unit(name, layer, tensors, is_layer=True))
                apart |= tensors.keys()
        for name, module in self._modules():
            tensors = {full: own for full, own in owners.items() if own is module}
            if tensors and not tensors.keys() & apart:
                units.append(Unit(name, module, tensors, is_layer=False))
        return units

    def tables(self) -> dict[str, torch.Tensor]:
        """Weights outside layers from which only some rows are looked up, by name."""
        layers = tuple(f"{name}." for name, _ in self._layers())
        return {
            f"{name}.weight": module.weight
            for name, module in self._modules()
            if isinstance(module, torch.nn.Embedding) and not f"{name}.".startswith(layers)
        }

    def _layers(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """The elements of module lists, without lists nested inside them."""
        lists: tuple[str, ...] = ()
        for name, module in self._modules():
            if isinstance(module, torch.nn.ModuleList) and not f"{name}.".startswith(lists):
                lists += (f"{name}.",)
                yield from ((f"{name}.{place}", layer) for place, layer in enumerate(module))

    def _modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """The modules of the parts, by their names in the model."""
        names = {module: name for name, module in self.model.named_modules()}
        for part in self.parts:
            yield from part.named_modules(prefix=names[part])


def _language_model(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config to build from: for an image-text model, its text part, which is all probes use."""
    if config.is_encoder_decoder:
        return config
    text = text_config(config)
    return text if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else config
