"""From an adapter_config.json to PEFT's own configuration, and to the tensors that count."""

import inspect
import logging
import re
from functools import cache
from typing import Any

import peft
import torch

from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

_HEADS = frozenset({"score", "classifier", "qa_outputs", "summary", "v_head"})
"""Modules above the hidden state that task heads and reward models add to a base."""

_LACKING = {
    "MULTITASK_PROMPT_TUNING": "the id of a task",
    "POLY": "the id of a task",
    "XLORA": "other adapters",
}
"""PEFT types that need more than a prompt to answer, and what they need."""

COPY = re.compile(r"\.(?:original_module|modules_to_save)\.")
"""PEFT also saves replaced modules under these names, with bias="all" or a resized vocabulary; it
loads what is under the module's own name."""

_MAGNITUDE = ".lora_magnitude_vector"
"""Suffix of DoRA's magnitudes, which PEFT loads only if the config says use_dora."""

INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base's weights unchanged when PEFT loads an adapter;
the others (pissa, olora, corda, loftq) subtract something from them."""


def peft_config(config: AdapterConfig, base: BaseStructure) -> Any:
    """PEFT's configuration object for an adapter of a base, as far as the hidden state needs it.

    Raises:
        AdapterError: unsupported_adapter: the installed PEFT does not know all its settings, or it
            does not describe an adapter that answers a plain prompt.
    """
    config_class = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING.get(config.peft_type)
    if config_class is None:
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER, f"the installed peft does not know {config.peft_type}"
        )
    if lacking := _LACKING.get(config.peft_type):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"a {config.peft_type} adapter answers only together with {lacking}",
        )
    values = config.known_values(_parameters(config_class)) | {"inference_mode": True}
    if str(values.get("init_lora_weights", "")).startswith("pissa_niter"):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            "init_lora_weights=pissa_niter: the part of the base that it replaces came from a "
            "random decomposition, which cannot be made again",
        )
    modules_to_save = values.get("modules_to_save")
    if isinstance(modules_to_save, list):
        if not all(isinstance(name, str) for name in modules_to_save):
            raise AdapterError(
                Reason.UNSUPPORTED_ADAPTER, "modules_to_save holds values that are not names"
            )
        present = {name.rpartition(".")[2] for name, _ in base.model.named_modules()}
        present.discard((base.output_layer or "").rpartition(".")[2])
        kept = [name for name in modules_to_save if name.rpartition(".")[2] in present]
        values["modules_to_save"] = kept or None
    values.pop("ensure_weight_tying", None)  # concerns the output layer, which is not needed
    values["task_type"] = None
    if issubclass(config_class, peft.PromptLearningConfig) or config.peft_type == "CPT":
        of_decoder = base.is_encoder_decoder
        values["task_type"] = peft.TaskType.SEQ_2_SEQ_LM if of_decoder else peft.TaskType.CAUSAL_LM
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise AdapterError(Reason.UNSUPPORTED_ADAPTER, one_line(error)) from error


@cache
def _parameters(config_class: type) -> frozenset[str]:
    """The parameters of a PEFT class; cached, since inspection takes a tenth of a millisecond."""
    return frozenset(inspect.signature(config_class).parameters)


def tensors_that_count(adapter: PeftAdapter, base: BaseStructure) -> dict[str, torch.Tensor]:
    """An adapter's tensors, except those that PEFT does not load or that no hidden state needs.

    The exceptions are second copies, DoRA magnitudes if the config does not say use_dora, and
    tensors of task heads and the output layer.
    """
    present = {name for name, _ in base.model.named_children()}
    saved = adapter.config.values.get("modules_to_save")
    named = (name for name in saved if isinstance(name, str)) if isinstance(saved, list) else ()
    heads = _HEADS.union(named) - present
    ignored: frozenset[str] = frozenset()
    if adapter.config.peft_type == "LORA" and not adapter.config.values.get("use_dora"):
        ignored = frozenset(name for name in adapter.tensors if name.endswith(_MAGNITUDE))
        if ignored:
            logger.info(
                "%s: ignored %s, as PEFT does: its config does not say use_dora",
                adapter.key,
                counted(len(ignored), "magnitude vector"),
            )
    return {
        name: tensor
        for name, tensor in adapter.tensors.items()
        if name not in ignored
        and name.removeprefix(PREFIX).partition(".")[0] not in heads
        and not base.is_unreached(name.removeprefix(PREFIX))
        and not (COPY.search(name) and COPY.sub(".", name) in adapter.tensors)
    }


def one_line(error: Exception) -> str:
    """The first two lines of an error, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
