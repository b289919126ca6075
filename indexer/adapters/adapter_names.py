"""Where each tensor of an adapter belongs in the base, whatever names its trainer used.

PEFT names a tensor after the module in the model that it wrapped. The same layer is
`model.layers.0…` in a text model, and in image-text models of newer and older transformers
`model.language_model.layers.0…` or `language_model.model.layers.0…`. Here every name is translated
to the loaded base's, once, before anything is checked or computed. Modules that no text prompt can
reach are left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import torch
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils.other import get_pattern_key
from torch import nn

from hubdelta.indexer.adapters.adapter_config import MLX, AdapterConfig
from hubdelta.indexer.adapters.blocks import Block, StoredNames
from hubdelta.indexer.adapters.compatibility import PREFIX, Shape
from hubdelta.indexer.adapters.mlx_adapter import peft_names, peft_settings
from hubdelta.indexer.adapters.patterns import check_patterns
from hubdelta.indexer.adapters.unusable_names import reject_empty, reject_wrapped
from hubdelta.indexer.base_structure import BaseStructure, below_head, is_of_other_media
from hubdelta.schemas.errors import AdapterError, Reason

_OUTER: Final = re.compile(r"(?:model|language_model|text_model)\.")
"""First words of the path to the text part of a model."""

_UNEMBEDDING: Final = re.compile(r"(?:model\.)?unembed_tokens\.")
"""What Tinker calls the output layer."""

_OF_METHODS: Final = tuple(sorted(set(filter(None, PEFT_TYPE_TO_PREFIX_MAPPING.values()))))
"""Prefixes of what each method appends to the name of an adapted module."""

_PARTS: Final = (
    *_OF_METHODS,
    *("base_layer", "token_adapter", "trainable_tokens", "modules_to_save", "original_module"),
)
"""The same for every part that PEFT adds."""

_NAMES_MODULES: Final = ("exclude_modules", "layers_to_transform", "layers_pattern")
"""Settings that are resolved once target_modules holds full names."""


class OwnNames(dict[str, str]):
    """Saved tensor name → the name on this base."""

    @cached_property
    def stored(self) -> StoredNames:
        """The reverse."""
        return StoredNames({own: saved for saved, own in self.items()})


@dataclass(frozen=True)
class Placement:
    """An adapter under the base's names.

    Attributes:
        config: its config, with the base's names where they differ.
        names: saved tensor name → PEFT's name on this base, for the tensors that count.
        transposed: saved names of tensors that PEFT holds transposed.
        parameters: module of the base → the shapes of its parameters named by target_parameters.
    """

    config: AdapterConfig
    names: OwnNames
    transposed: frozenset[str] = field(default=frozenset())
    parameters: Mapping[str, Sequence[Shape]] = field(default_factory=dict)

    def shapes(self, saved: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes by the base's names."""
        return {
            own: saved[name][::-1] if name in self.transposed else saved[name]
            for name, own in self.names.items()
        }

    def tensors(self, saved: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Tensors by the base's names."""
        if isinstance(saved, Block) and not self.transposed:
            return Block(saved.layout, saved.data, self.names.stored)
        return {
            own: saved[name].T.contiguous() if name in self.transposed else saved[name]
            for name, own in self.names.items()
        }


class AdapterNames:
    """Finds the places of adapters' tensors in one base.

    Args:
        base: the base, with or without weights.
    """

    def __init__(self, base: BaseStructure) -> None:
        self._base = base
        self._modules = dict(base.model.named_modules())

    @cached_property
    def _paths(self) -> tuple[str, ...]:
        """Possible paths of the text part, such as model.language_model., innermost first."""
        model = self._base.model
        decoder = model.get_decoder()
        inner = (f"{name}." for name, module in self._modules.items() if module is decoder)
        return (*(path for path in inner if path != "."), below_head(model)[1])

    def place(self, config: AdapterConfig, shapes: Mapping[str, Shape]) -> Placement:
        """Find the place of every tensor.

        A tensor without one keeps its name, so that later checks can report it.

        Args:
            config: the adapter's.
            shapes: saved tensor name → shape.

        Raises:
            AdapterError: corrupt (no PEFT tensors, or empty ones) or unsupported_adapter.
        """
        saved = {name: name for name in shapes}
        transposed: frozenset[str] = frozenset()
        if config.peft_type == MLX:
            config = peft_settings(config, shapes)
            saved = peft_names(shapes, self._is_embedding)
            transposed = frozenset(name for name in shapes if not name.endswith(".m"))
        reject_wrapped(saved.values())
        names, moved = {}, bool(transposed)
        for name, peft_name in saved.items():
            inner = peft_name.removeprefix(PREFIX)
            own = self._own(inner)
            if own is None and (
                0 in shapes[name] or is_of_other_media(inner) or _UNEMBEDDING.match(inner)
            ):
                continue
            if own is not None and self._base.is_unreached(own):
                continue
            moved |= own is not None and own != inner
            prefix = PREFIX if peft_name.startswith(PREFIX) else ""
            names[name] = prefix + own if own is not None else peft_name
        reject_empty({name: shapes[name] for name in names})
        self._reject_without_prefix(names.values())
        if not names and any(map(is_of_other_media, saved)):
            raise AdapterError(
                Reason.UNSUPPORTED_ADAPTER,
                "all its tensors belong to modules that no text reaches, such as a vision tower",
            )
        saved_modules = self._saved_modules(
            {own: saved[name].removeprefix(PREFIX) for name, own in names.items()}
        )
        parameters = self._target_parameters(config, saved_modules)
        if moved:
            own_shapes = {own: shapes[name] for name, own in names.items()}
            check_patterns(config, sorted(saved_modules.values()))
            values = self._own_settings(config, own_shapes, saved_modules, parameters)
            config = replace(config, values=values)
        of_modules = {module: [*held.values()] for module, held in parameters.items()}
        return Placement(config, OwnNames(names), transposed, of_modules)

    def _own(self, name: str) -> str | None:
        """A tensor's or module's name in the base; None if the base has no such module."""
        if self._module_of(name) is not None:
            return name
        return next((own for own in self._elsewhere(name) if self._module_of(own)), None)

    def _elsewhere(self, name: str) -> Iterator[str]:
        """Other possible names of a module in this base."""
        tail = name
        while outer := _OUTER.match(tail):
            tail = tail[outer.end() :]
            yield from (path + tail for path in self._paths)
            yield tail
        yield f"model.{name}"
        yield from (path + name for path in self._paths)

    def _module_of(self, name: str) -> str | None:
        """The module of the base that a name fully names, if any."""
        module, parts = name, ""
        while module and module not in self._modules:
            module, _, part = module.rpartition(".")
            parts = f"{part}.{parts}"
        if not module:
            return None
        parts = parts.removesuffix(".")
        whole = not parts or parts in ("weight", "bias") or parts.startswith(_PARTS)
        return module if whole or module.endswith("experts") else None

    def _is_embedding(self, name: str) -> bool:
        own = self._own(name)
        return own is not None and isinstance(self._modules.get(own), nn.Embedding)

    def _reject_without_prefix(self, names: Any) -> None:
        """Reject low-rank factors without PEFT's prefix, which PEFT does not load."""
        bare = [name for name in names if ".lora_" in name and not name.startswith("base_model.")]
        if any(self._module_of(name) for name in bare):
            raise AdapterError(
                Reason.CORRUPT,
                f"{len(bare)} of its tensor names lack the prefix {PREFIX} (the first is "
                f"{bare[0]}), and PEFT loads none without it: its author should save it with "
                "save_pretrained of the PEFT model",
            )

    def _saved_modules(self, names: Mapping[str, str]) -> dict[str, str]:
        """The names of the base's modules when an adapter was saved.

        Args:
            names: a tensor's name on this base → its saved name, without PREFIX.
        """
        found = {}
        for own, saved in names.items():
            module = self._module_of(own.removeprefix(PREFIX))
            part = own.removeprefix(f"{PREFIX}{module}")
            if module is not None and saved.endswith(part):
                found[module] = saved.removesuffix(part)
        return found

    def _target_parameters(
        self, config: AdapterConfig, saved_modules: Mapping[str, str]
    ) -> dict[str, dict[str, Shape]]:
        """The parameters named by target_parameters: module of the base → last name → shape."""
        targets = _listed(config.values.get("target_parameters"))
        found: dict[str, dict[str, Shape]] = {}
        for own, saved in saved_modules.items() if targets else ():
            for last, parameter in self._modules[own].named_parameters(recurse=False):
                # As PEFT matches them: the full name, or its end.
                names = (f".{own}.{last}", f".{saved}.{last}")
                if any(name.endswith(f".{target}") for name in names for target in targets):
                    found.setdefault(own, {})[last] = tuple(parameter.shape)
        return found

    def _own_settings(
        self,
        config: AdapterConfig,
        shapes: Mapping[str, Shape],
        saved_modules: Mapping[str, str],
        parameters: Mapping[str, Mapping[str, Shape]],
    ) -> dict[str, Any]:
        """Settings that name modules, under the base's names; tensors say which are adapted."""
        values = {key: value for key, value in config.values.items() if key not in _NAMES_MODULES}
        adapted: dict[str, Shape] = {}
        for name, shape in shapes.items():
            module = self._module_of(name.removeprefix(PREFIX))
            part = name.removeprefix(f"{PREFIX}{module}.")
            if module is not None and part.startswith(_OF_METHODS):
                adapted[module] = shape
        if adapted:
            values["target_modules"] = sorted(adapted.keys() - parameters.keys())
        if parameters:
            values["target_parameters"] = sorted(
                f"{module}.{last}" for module, held in parameters.items() for last in held
            )
        if "feedforward_modules" in values:
            # IA3's factor of inputs is [1, in], of outputs [out, 1].
            values["feedforward_modules"] = sorted(
                module for module, shape in adapted.items() if shape[0] == 1
            )
        matched = dict(saved_modules)
        for own, held in parameters.items():
            matched |= {f"{own}.{last}": f"{saved_modules[own]}.{last}" for last in held}
        for key in ("rank_pattern", "alpha_pattern"):
            if isinstance(pattern := values.get(key), dict):
                values[key] = _settled(pattern, matched)
        if isinstance(tokens := values.get("trainable_token_indices"), dict):
            values["trainable_token_indices"] = {
                self._own(name) or name: indices for name, indices in tokens.items()
            }
        if isinstance(saved := values.get("modules_to_save"), list):
            values["modules_to_save"] = [self._own(str(name)) or name for name in saved]
        return values


def _listed(names: Any) -> list[str]:
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _settled(pattern: Mapping[str, Any], modules: Mapping[str, str]) -> dict[str, Any]:
    """The values of a pattern, by full module name.

    PEFT matches names of the model that it wrapped, which the base may not have.

    Args:
        pattern: regular expression → value, as in rank_pattern.
        modules: module of the base → its name when the adapter was saved.
    """
    found = {}
    for own, saved in modules.items():
        key = get_pattern_key(list(pattern), saved)
        if key in pattern:
            # PEFT prepends an optional path, which must stay empty.
            found[f"^{re.escape(own)}"] = pattern[key]
    return found
