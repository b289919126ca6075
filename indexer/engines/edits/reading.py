"""From an adapter's tensors to its edits: every tensor has a place, or is named in an error."""

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.blocks import Block
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.peft_config import COPY, peft_config, tensors_that_count
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.edits.block_edits import BlockEdits, BlockPlan
from hubdelta.indexer.engines.edits.edits import Edit, Edits, ParameterEdit, TableEdit
from hubdelta.indexer.engines.edits.factored_methods import loha_numbers
from hubdelta.indexer.engines.edits.manifest import Expected, Manifest
from hubdelta.indexer.engines.edits.methods import (
    LoraNames,
    dense_edit,
    lora_edits,
    table_rows,
)
from hubdelta.indexer.engines.edits.parameters import OF_A_PARAMETER, parameters_edit
from hubdelta.indexer.engines.edits.site import SHARED, Site
from hubdelta.indexer.engines.edits.structure import dense_shape, is_dense
from hubdelta.indexer.engines.edits.support import OF_WHOLE_MATRICES
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.words import counted

_MOST_LAYOUTS = 100


@dataclass(frozen=True)
class _Layout:
    """Where an adapter's tensors belong.

    Attributes:
        parts: module → part of its edit → tensor's name.
        lora: the same if all of it is LoRA of dense layers, or else None.
    """

    parts: Mapping[str, Mapping[str, str]]
    lora: Sequence[LoraNames] | None


@dataclass(frozen=True)
class _Counting:
    """The tensors of an adapter that count, by name, and the modules to which they belong."""

    names: frozenset[str]
    modules: frozenset[str]


def _likeness(adapter: PeftAdapter) -> Hashable | None:
    """Equal for adapters that differ in nothing but numbers and `OWN_SETTINGS`.

    None for those that were not read as a block, or whose config names no alpha.
    """
    block, config = adapter.tensors, adapter.config
    has_alpha = "lora_alpha" in config.values and config.alpha is not None
    if not isinstance(block, Block) or config.peft_type != "LORA" or not has_alpha:
        return None
    return block.layout, block.stored, config.likeness


def _block_edits(plan: BlockPlan, adapter: PeftAdapter) -> BlockEdits:
    block, config = adapter.tensors, adapter.config
    if not isinstance(block, Block) or config.alpha is None:
        raise TypeError("only what was read as a block has a plan")
    rank = math.sqrt(plan.rank) if config.values.get("use_rslora") else plan.rank
    return BlockEdits(plan, block.data, config.alpha / rank)


_NAME = re.compile(
    r"(?P<module>.+?)"
    r"(?:\.(?:token_adapter|base_layer|ln_tuning_layers))*"
    r"\.(?P<part>lora_[AB]\.(?:weight|bias)|gralora_[AB]_general\.weight|oft_R\.weight|[^.]+)"
)
"""A tensor's name without prefix: the base's module, PEFT's wrappers, and the part."""


class EditReader:
    """Reads the adapters of one base.

    Args:
        base: the base.
        tokens: the distinct token ids of the probes, int64 [tokens].
    """

    def __init__(self, base: BaseModel, tokens: torch.Tensor) -> None:
        self._base = base
        self._tokens = tokens
        self._modules = dict(base.model.named_modules())
        self._manifest = Manifest(base.model)
        self._counting: dict[tuple[frozenset[str], str, bool], _Counting] = {}
        self._layouts: dict[Hashable, _Layout] = {}
        self._plans: dict[Hashable, BlockPlan] = {}

    def modules(self, adapter: PeftAdapter) -> frozenset[str]:
        """Names of the modules that an adapter's tensors belong to, by their names."""
        return self._that_count(adapter).modules

    def made_bytes(self, adapter: PeftAdapter) -> int:
        """Bytes that an adapter's edits take beside its own tensors, where these are many.

        That is so where each layer gets a matrix of its own, and with LoHa's products of factors.
        """
        kind = adapter.config.peft_type
        if kind != "LOHA" and kind not in OF_WHOLE_MATRICES:
            return 0
        modules = (self._modules[name] for name in self.modules(adapter) & self._modules.keys())
        shapes = [dense_shape(module) for module in modules if is_dense(module)]
        if kind == "LOHA":
            ranks = [
                tensor.shape[1]
                for name, tensor in adapter.tensors.items()
                if name.endswith(".hada_w1_a") and tensor.dim() == 2
            ]
            return 4 * sum(loha_numbers(max(ranks, default=0), *shape) for shape in shapes)
        return 4 * sum(out_features * in_features for out_features, in_features in shapes)

    def read(self, adapter: PeftAdapter) -> Edits:
        """How an adapter changes the base's modules, by their names.

        Raises:
            AdapterError: base_mismatch or corrupt, naming the tensor that has no place, is missing
                or has another shape; unsupported_adapter, as `peft_config`; engine: a tensor whose
                method is not known at its module.
        """
        plan = self.plan(adapter)
        return self._read_whole(adapter) if plan is None else _block_edits(plan, adapter)

    def plan(self, adapter: PeftAdapter) -> BlockPlan | None:
        """Where the factors of an adapter lie in its block, if that is known from one like it."""
        likeness = _likeness(adapter)
        return None if likeness is None else self._plans.get(likeness)

    def _read_whole(self, adapter: PeftAdapter) -> Edits:
        """Read an adapter, and remember where its factors lie for those like it."""
        config = peft_config(adapter.config, self._base)
        counting = self._that_count(adapter).names
        layout = self._layout(counting, self._manifest.of(adapter.config, config))
        tensors = adapter.tensors
        edits = None if layout.lora is None else lora_edits(layout.lora, tensors, config)
        if edits and layout.lora is not None and (likeness := _likeness(adapter)) is not None:
            plan = BlockPlan.of(layout.lora, tensors) if isinstance(tensors, Block) else None
            if plan is not None:
                if len(self._plans) >= _MOST_LAYOUTS:
                    self._plans.clear()
                self._plans[likeness] = plan
                edits = _block_edits(plan, adapter)
        if edits is None:
            edits = {}
            for module, parts in layout.parts.items():
                site = Site(module, self._modules[module], parts, tensors, config)
                edits[module] = self._edit(site)
                site.check_all_read()
        return edits

    def _that_count(self, adapter: PeftAdapter) -> _Counting:
        """Which tensors count; cached, since thousands of adapters have the same names."""
        said = adapter.config.values
        key = (
            frozenset(adapter.tensors),
            repr(said.get("modules_to_save")),
            bool(said.get("use_dora")),
        )
        if key not in self._counting:
            names = frozenset(tensors_that_count(adapter, self._base))
            modules = frozenset(self._place(name)[0] for name in names - SHARED)
            if len(self._counting) >= _MOST_LAYOUTS:
                self._counting.clear()
            self._counting[key] = _Counting(names, modules)
        return self._counting[key]

    def _layout(self, tensors: frozenset[str], expected: Expected) -> _Layout:
        """Where an adapter's tensors belong; cached for the same reason."""
        key = tensors, expected.names, frozenset(expected.parameters.items())
        if key not in self._layouts:
            self._check_names(tensors, expected.names)
            names: dict[str, dict[str, str]] = defaultdict(dict)
            for name in sorted(tensors):
                module, part = self._place(name)
                parameter = expected.parameters.get(name.removesuffix(f".{part}"))
                if module in self._modules:
                    names[module][f"{parameter}.{part}" if parameter else part] = name
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            lora = [
                LoraNames.of(module, self._modules[module], parts)
                for module, parts in names.items()
            ]
            plain = [layer for layer in lora if layer is not None]
            self._layouts[key] = _Layout(names, plain if len(plain) == len(lora) else None)
        return self._layouts[key]

    def _check_names(self, tensors: frozenset[str], expected: Iterable[str]) -> None:
        wanted = {
            name
            for name in expected
            if not COPY.search(name) and not self._base.is_unreached(name.removeprefix(PREFIX))
        }
        wrapped = {self._place(name)[0] for name in wanted}
        extra = sorted(
            name for name in tensors - wanted if not self._is_own_parameter(name, wrapped)
        )
        if extra:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {extra[0]} has no place in the base and its adapter "
                f"({counted(len(extra), 'such tensor')})",
            )
        missing = sorted(wanted - tensors)
        if missing:
            raise AdapterError(
                Reason.CORRUPT,
                f"tensor {missing[0]} is missing from the weights "
                f"({counted(len(missing), 'such tensor')})",
            )

    def _is_own_parameter(self, name: str, wrapped: Set[str]) -> bool:
        """Whether PEFT would load a tensor into the base itself, as it does with resized tables.

        Args:
            name: of the tensor.
            wrapped: modules that PEFT wraps in its own, which keep them as base_layer.
        """
        module, part = self._place(name)
        if not name.startswith(PREFIX) or module not in self._modules:
            return False
        own = dict(self._modules[module].named_parameters(recurse=False))
        return part in own and (".base_layer." in name) == (module in wrapped)

    @staticmethod
    def _place(name: str) -> tuple[str, str]:
        """A tensor's module in the base, and the part of an edit that it is."""
        match = _NAME.fullmatch(name.removeprefix(PREFIX))
        return (match["module"], match["part"]) if match else ("", name)

    def _edit(self, site: Site) -> Edit:
        if any(part.endswith(OF_A_PARAMETER) for part in site.names):
            return parameters_edit(site, self._tokens)
        if isinstance(site.module, nn.Embedding):
            return TableEdit(table_rows(site, site.module, self._tokens))
        if is_dense(site.module):
            return dense_edit(site)
        # Of a module that is saved whole, buffers are too, such as the biases of a router.
        own = dict(chain(site.module.named_parameters(), site.module.named_buffers()))
        shapes = {part: own[part].shape for part in site.names}
        return ParameterEdit({part: site.shaped(part, shape) for part, shape in shapes.items()})
