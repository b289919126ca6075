"""The reference engine: fp32, one adapter and one probe at a time, unloaded after each.

It follows the published computation (arXiv 2509.04442) to the letter and serves any PEFT type,
so the faster engines are measured against it.
"""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np
import peft
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from hubdelta.indexer.adapter_config import AdapterConfig
from hubdelta.indexer.base_model import (
    LOADING_ERRORS,
    BaseModel,
    IncompleteModelError,
    load_causal_lm,
)
from hubdelta.indexer.engine import Activations, Adapter, FullFinetune, PeftAdapter, unexpected
from hubdelta.indexer.fit import PREFIX
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason

logger = logging.getLogger(__name__)

_HEADS = frozenset({"score", "classifier", "qa_outputs", "summary", "v_head"})
"""Modules above the hidden state that task heads and reward models add to a base."""

_LACKING = {
    "MULTITASK_PROMPT_TUNING": "the id of a task",
    "POLY": "the id of a task",
    "XLORA": "other adapters",
}
"""PEFT types that do not say what to answer to a prompt alone."""

_INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base's weights alone when PEFT loads an adapter;
the others (pissa, olora, corda, loftq) subtract something from them."""


class ReferenceEngine:
    """PEFT's own modules on the base, put in and taken out again for each adapter."""

    name = "reference"
    precision = "fp32"

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._before = self.base_activations()

    def base_activations(self) -> Activations:
        """The base's own activations, [probes, hidden]."""
        return _hidden_states(self._base.model, self._base.probes)

    def noise_floor(self) -> float:
        """The base against itself: each probe alone, and four times in one batch.

        The batch changes the shapes of the matrix products and so the order of their sums,
        which is all that can differ. Never less than one unit in the last place of fp32.
        """
        alone = self.base_activations().mean(axis=0)
        batched = _hidden_states(
            self._base.model, tuple(probe.repeat(4, 1) for probe in self._base.probes)
        ).mean(axis=0)
        smallest = float(np.finfo(np.float32).eps * np.linalg.norm(alone))
        return max(float(np.linalg.norm(batched - alone)), smallest)

    def can_embed(self, adapter: Adapter) -> bool:
        """Any adapter: what PEFT or transformers can load, it runs."""
        return True

    def activations(self, adapters: Sequence[Adapter]) -> Iterator[Activations | AdapterError]:
        """One answer for each adapter, in their order, each as soon as it is known."""
        for adapter in adapters:
            try:
                yield self._run(adapter)
            except AdapterError as error:
                yield error
            except Exception as error:
                logger.debug("%s", adapter.key, exc_info=True)
                yield unexpected(error)

    def _check_base(self, error: Exception) -> None:
        """Make sure that the base still answers as before, and so that later vectors are right.

        Raises:
            HubdeltaError: it does not; a lost GPU, for one.
        """
        try:
            sound = np.array_equal(self.base_activations(), self._before)
        except RuntimeError:
            sound = False
        if not sound:
            raise HubdeltaError(f"the engine no longer works, run again: {error}") from error

    def _run(self, adapter: Adapter) -> Activations:
        if isinstance(adapter, FullFinetune):
            return self._finite(self._run_full(adapter))
        config = _peft_config(adapter.config, self._base)
        tensors = _without_heads(adapter, self._base)
        model = self._base.model
        if _changes_base(adapter.config, tensors, model):
            return self._finite(self._run_peft(copy.deepcopy(model), config, tensors))
        with _restored(model):
            return self._finite(self._run_peft(model, config, tensors))

    def _run_peft(
        self, model: PreTrainedModel, config: Any, tensors: dict[str, torch.Tensor]
    ) -> Activations:
        # A head task would wrap the model in a class that looks for the head; the hidden state
        # needs none. Prompt learning lives in the causal wrapper alone.
        wrapper = peft.PeftModelForCausalLM if config.is_prompt_learning else peft.PeftModel
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wrapped = wrapper(model, config).eval()
                result = peft.set_peft_model_state_dict(wrapped, tensors)
                expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            except (RuntimeError, KeyError, ValueError) as error:
                raise AdapterError(Reason.BASE_MISMATCH, _one_line(error)) from error
            except (TypeError, AttributeError, NotImplementedError, ImportError) as error:
                raise AdapterError(Reason.UNSUPPORTED_ADAPTER, _one_line(error)) from error
        # PEFT keeps learned prompts outside the module tree and reports them as unexpected.
        unexpected = (
            sorted(tensors.keys() - expected.keys())
            if config.is_prompt_learning
            else result.unexpected_keys
        )
        if unexpected:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {unexpected[0]} has no place in the base and its adapter "
                f"({len(unexpected)} such tensors)",
            )
        missing = sorted(expected.keys() - tensors.keys())
        if missing:
            raise AdapterError(
                Reason.CORRUPT,
                f"tensor {missing[0]} is missing from the weights ({len(missing)} such tensors)",
            )
        return _hidden_states(wrapped, self._base.probes)

    def _run_full(self, finetune: FullFinetune) -> Activations:
        try:
            model = load_causal_lm(finetune.folder)
        except UnpicklingError as error:
            raise AdapterError(Reason.UNSAFE_FORMAT, _one_line(error)) from error
        except (IncompleteModelError, SafetensorError) as error:
            raise AdapterError(Reason.CORRUPT, _one_line(error)) from error
        except LOADING_ERRORS as error:
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, _one_line(error)) from error
        return _hidden_states(model.to(self._base.model.device), self._base.probes)

    @staticmethod
    def _finite(activations: Activations) -> Activations:
        if not np.isfinite(activations).all():
            raise AdapterError(Reason.NOT_FINITE, "its hidden states hold NaN or infinity in fp32")
        return activations


@torch.inference_mode()
def _hidden_states(model: torch.nn.Module, probes: Sequence[torch.Tensor]) -> Activations:
    """Last-token hidden state after the final norm of each probe's first row, [probes, hidden]."""
    options: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
    inner = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        options["logits_to_keep"] = 1
    rows = [
        model(input_ids=probe, attention_mask=torch.ones_like(probe), **options).hidden_states[-1][
            0, -1
        ]
        for probe in probes
    ]
    return torch.stack(rows).float().cpu().numpy()


def _peft_config(config: AdapterConfig, base: BaseModel) -> Any:
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
    known = frozenset(inspect.signature(config_class).parameters)
    values = config.reject_unknown(known) | {"inference_mode": True}
    if str(values.get("init_lora_weights", "")).startswith("pissa_niter"):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            "init_lora_weights=pissa_niter: the part of the base that it replaces came from a "
            "random decomposition, which cannot be made again",
        )
    modules_to_save = values.get("modules_to_save")
    if isinstance(modules_to_save, list):
        present = {name.rpartition(".")[2] for name, _ in base.model.named_modules()}
        kept = [name for name in modules_to_save if name.rpartition(".")[2] in present]
        values["modules_to_save"] = kept or None
    values["task_type"] = None
    if issubclass(config_class, peft.PromptLearningConfig) or config.peft_type == "CPT":
        values["task_type"] = peft.TaskType.CAUSAL_LM
    try:
        return config_class(**values)
    except (TypeError, ValueError) as error:
        raise AdapterError(Reason.UNSUPPORTED_ADAPTER, _one_line(error)) from error


def _without_heads(adapter: PeftAdapter, base: BaseModel) -> dict[str, torch.Tensor]:
    """The tensors without those of a head that the base does not have."""
    present = {name.partition(".")[0] for name, _ in base.model.named_modules()}
    saved = adapter.config.values.get("modules_to_save")
    heads = _HEADS.union(saved if isinstance(saved, list) else ()) - present
    return {
        name: tensor
        for name, tensor in adapter.tensors.items()
        if name.removeprefix(PREFIX).partition(".")[0] not in heads
    }


def _changes_base(
    config: AdapterConfig, tensors: dict[str, torch.Tensor], model: PreTrainedModel
) -> bool:
    """Whether loading it writes into the base's own weights, as some initialisations do."""
    if config.values.get("init_lora_weights", True) not in _INITS_THAT_KEEP_THE_BASE:
        return True
    if config.values.get("layer_replication"):
        return True
    own = dict(model.named_parameters())
    plain = (name.removeprefix(PREFIX).replace(".base_layer.", ".") for name in tensors)
    return any(name in own for name in plain)


@contextmanager
def _restored(model: PreTrainedModel) -> Iterator[None]:
    """Put every module of a model back as it was: children, parameters, hooks, config."""
    saved = [
        (module, {k: copy.copy(v) if isinstance(v, dict) else v for k, v in vars(module).items()})
        for module in model.modules()
    ]
    configs = {id(c): c for c in (getattr(m, "config", None) for m in model.modules()) if c}
    settings = [(config, dict(vars(config))) for config in configs.values()]
    frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, attributes in saved:
            vars(module).clear()
            vars(module).update(attributes)
        for config, values in settings:
            vars(config).clear()
            vars(config).update(values)
        for parameter, requires_grad in frozen:
            parameter.requires_grad_(requires_grad)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
