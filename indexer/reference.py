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
from typing import Any

import numpy as np
import peft
import torch
from transformers import PreTrainedModel

from hubdelta.indexer.adapter_config import AdapterConfig
from hubdelta.indexer.base_model import (
    BaseModel,
    decoder_start,
)
from hubdelta.indexer.engine import (
    BUILDING,
    Activations,
    Adapter,
    Answer,
    Baseline,
    Engine,
    FullFinetune,
    Result,
    unexpected,
)
from hubdelta.indexer.fit import PREFIX
from hubdelta.indexer.peft_config import (
    COPY,
    INITS_THAT_KEEP_THE_BASE,
    one_line,
    peft_config,
    tensors_that_count,
)
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason

logger = logging.getLogger(__name__)


class ReferenceEngine(Engine):
    """PEFT's own modules on the base, put in and taken out again for each adapter.

    Attributes:
        baseline: the base's own answer.
    """

    name = "reference"
    precision = "fp32"

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        activations = hidden_states(base.model, base.probes)
        self.baseline = Baseline(
            self.name, self.precision, activations, _noise_floor(base, activations)
        )

    def can_embed(self, adapter: Adapter) -> bool:
        """Any adapter that PEFT can load; whole models are the streamed engine's."""
        return not isinstance(adapter, FullFinetune)

    def steps(self, adapters: Sequence[Adapter]) -> Iterator[tuple[int, Adapter]]:
        """One adapter after the other, with its place."""
        yield from enumerate(adapters)

    def run(self, step: tuple[int, Adapter]) -> Iterator[Result]:
        """Put one adapter in, run it, and take it out again.

        Raises:
            HubdeltaError: the base no longer answers as before.
        """
        place, adapter = step
        try:
            yield place, Answer(self._run(adapter), self.baseline)
        except AdapterError as error:
            yield place, error
        except Exception as error:
            logger.debug("%s", adapter.key, exc_info=True)
            self._check_base(error)
            yield place, unexpected(error)

    def _check_base(self, error: Exception) -> None:
        """Make sure that the base still answers as before, and so that later vectors are right.

        Raises:
            HubdeltaError: it does not; a lost GPU, for one.
        """
        try:
            now = hidden_states(self._base.model, self._base.probes)
            sound = np.array_equal(now, self.baseline.activations)
        except RuntimeError:
            sound = False
        if not sound:
            raise HubdeltaError(f"the engine no longer works, run again: {error}") from error

    def _run(self, adapter: Adapter) -> Activations:
        if isinstance(adapter, FullFinetune):
            raise TypeError(f"{adapter.key} is a whole model, not an adapter")
        model = self._base.model
        config = peft_config(adapter.config, self._base)
        tensors = {name: t.float() for name, t in tensors_that_count(adapter, self._base).items()}
        if _changes_base(adapter.config, tensors, model):
            return self._finite(self._run_peft(copy.deepcopy(model), config, tensors))
        with _restored(model):
            return self._finite(self._run_peft(model, config, tensors))

    def _run_peft(
        self, model: PreTrainedModel, config: Any, tensors: dict[str, torch.Tensor]
    ) -> Activations:
        # A head task would wrap the model in a class that looks for the head; the hidden state
        # needs none. Prompt learning lives in the wrappers of language models alone.
        wrapper = peft.PeftModel
        if config.is_prompt_learning:
            of_decoder = self._base.is_encoder_decoder
            wrapper = peft.PeftModelForSeq2SeqLM if of_decoder else peft.PeftModelForCausalLM
        with BUILDING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                wrapped = wrapper(model, config).eval()
                result = peft.set_peft_model_state_dict(wrapped, tensors)
                expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
            except (RuntimeError, KeyError, ValueError) as error:
                raise AdapterError(Reason.BASE_MISMATCH, one_line(error)) from error
            except (TypeError, AttributeError, NotImplementedError, ImportError) as error:
                raise AdapterError(Reason.UNSUPPORTED_ADAPTER, one_line(error)) from error
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
        missing = sorted(
            name
            for name in expected.keys() - tensors.keys()
            if not COPY.search(name)
            and not self._base.is_above_hidden_state(name.removeprefix(PREFIX))
        )
        if tensors.keys() - expected.keys():
            # PEFT gave them names of today, as it does to the experts of older MoE models.
            missing = sorted(name for name in result.missing_keys if ".lora_" in name)
        if missing:
            raise AdapterError(
                Reason.CORRUPT,
                f"tensor {missing[0]} is missing from the weights ({len(missing)} such tensors)",
            )
        try:
            return hidden_states(wrapped, self._base.probes)
        except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
            if not config.is_prompt_learning:
                raise
            # A learned prefix goes in by the cache, whose form transformers changes now and then.
            what = f"the installed peft cannot run {config.peft_type.value} on this base: {error}"
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, what) from error

    @staticmethod
    def _finite(activations: Activations) -> Activations:
        if not np.isfinite(activations).all():
            raise AdapterError(Reason.NOT_FINITE, "its hidden states hold NaN or infinity in fp32")
        return activations


def _noise_floor(base: BaseModel, alone: Activations) -> float:
    """L2 norm of the base's difference from itself: each probe alone, and four times in one batch.

    The batch changes the shapes of the matrix products and so the order of their sums, which is
    all that can differ. Never less than one unit in the last place of fp32.
    """
    batched = hidden_states(base.model, tuple(probe.repeat(4, 1) for probe in base.probes))
    mean = alone.mean(axis=0)
    smallest = float(np.finfo(np.float32).eps * np.linalg.norm(mean))
    return max(float(np.linalg.norm(batched.mean(axis=0) - mean)), smallest)


@torch.inference_mode()
def hidden_states(model: torch.nn.Module, probes: Sequence[torch.Tensor]) -> Activations:
    """The hidden state that `recipe` defines, of each probe's first row, [probes, hidden]."""
    options: dict[str, Any] = {"output_hidden_states": True, "use_cache": False}
    inner = model.get_base_model() if isinstance(model, peft.PeftModel) else model
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        options["logits_to_keep"] = 1
    start = decoder_start(inner)
    rows = []
    for probe in probes:
        if start is not None:
            options["decoder_input_ids"] = torch.full_like(probe[:, :1], start)
        output = model(input_ids=probe, attention_mask=torch.ones_like(probe), **options)
        states = output.hidden_states if start is None else output.decoder_hidden_states
        rows.append(states[-1][0, -1])
    return torch.stack(rows).float().cpu().numpy()


def _changes_base(
    config: AdapterConfig, tensors: dict[str, torch.Tensor], model: PreTrainedModel
) -> bool:
    """Whether loading it writes into the base's own weights, as some initialisations do."""
    if config.values.get("init_lora_weights", True) not in INITS_THAT_KEEP_THE_BASE:
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
