"""Which tensors an adapter must hold: those that PEFT itself would create for this base."""

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import ParamWrapper
from transformers import PreTrainedModel

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.peft_config import one_line
from hubdelta.indexer.building import BUILDING
from hubdelta.indexer.engines.edits.structure import dense_shape, on_meta
from hubdelta.schemas.errors import AdapterError, Reason

_PROVENANCE = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "lora_alpha",
        "lora_dropout",
        "peft_version",
        "revision",
        "task_type",
    }
)
_MOST_KEPT = 100


@dataclass(frozen=True)
class Expected:
    """What PEFT creates for an adapter.

    Attributes:
        names: of its tensors, as saved.
        parameters: name of a wrapper, as in tensors' names → name of the one parameter of the
            wrapped module that it adapts, where target_parameters says so.
    """

    names: frozenset[str]
    parameters: Mapping[str, str]


def _first_entries(layer: torch.nn.Module, rank: int, **_: Any) -> torch.Tensor:
    """A mask as SHiRA's, [out_features, in_features], that needs no weights."""
    out_features, in_features = dense_shape(layer)
    mask = torch.zeros(out_features * in_features)
    mask[: rank * (out_features + in_features)] = 1.0
    return mask.view(out_features, in_features)


class Manifest:
    """What PEFT expects of an adapter, found by applying PEFT to a copy without weights.

    That takes a fifth of a second for a model of a few hundred layers, so answers are cached for
    all adapters whose settings differ only in rank, scaling and origin.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._skeleton = on_meta(model)
        self._known: dict[str, Expected] = {}

    def of(self, config: AdapterConfig, peft_config: Any) -> Expected:
        """What an adapter's tensors are called, and what they belong to.

        Args:
            config: the adapter's config.
            peft_config: the same as a PEFT object.

        Raises:
            AdapterError: base_mismatch: PEFT finds nothing in this base to apply it to.
        """
        ranks = {"r", "rank_pattern", "alpha_pattern"} if config.peft_type == "LORA" else set()
        settings = {
            name: sorted(value) if isinstance(value, set) else value
            for name, value in (
                (spec.name, getattr(peft_config, spec.name)) for spec in fields(peft_config)
            )
            if name not in _PROVENANCE | ranks
        }
        key = json.dumps(settings, sort_keys=True, default=str)
        if key not in self._known:
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            self._known[key] = self._apply(copy.copy(peft_config))
        return self._known[key]

    def _apply(self, config: Any) -> Expected:
        if config.peft_type == peft.PeftType.LORA:
            config.r, config.rank_pattern, config.alpha_pattern = 1, {}, {}
            config.init_lora_weights = True  # some initializations need weights
            config.lora_dropout = 0.0  # does nothing here, and PEFT refuses it for parameters
        if config.peft_type == peft.PeftType.SHIRA:
            config.mask_fn = _first_entries  # the usual ones look at weights
        apply = partial(peft.PeftModel, copy.deepcopy(self._skeleton), config)
        with BUILDING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wrapped = apply(low_cpu_mem_usage=True)
                expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            except (RuntimeError, KeyError, ValueError) as error:
                raise AdapterError(Reason.BASE_MISMATCH, one_line(error)) from error
            except (TypeError, AttributeError, NotImplementedError) as error:
                raise AdapterError(Reason.UNSUPPORTED_ADAPTER, one_line(error)) from error
        wrappers = {
            name: module.parameter_name
            for name, module in wrapped.named_modules()
            if isinstance(module, ParamWrapper)
        }
        return Expected(frozenset(expected), wrappers)
