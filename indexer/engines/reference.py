"""The reference engine: fp32, one adapter and one probe at a time, unloaded after each.

It follows the published computation (arXiv 2509.04442) exactly and supports any PEFT type, so the
faster engines are measured against it.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import peft
import torch
from transformers import PreTrainedModel

from hubdelta.indexer.adapters.adapter import Adapter, FullFinetune
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.adapters.peft_config import (
    COPY,
    INITS_THAT_KEEP_THE_BASE,
    one_line,
    peft_config,
    tensors_that_count,
)
from hubdelta.indexer.base_structure import brief
from hubdelta.indexer.building import BUILDING
from hubdelta.indexer.engines.base_guard import BaseGuard
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.engine import (
    Activations,
    Answer,
    Baseline,
    Engine,
    Result,
    attempt,
    noise_floor,
    not_finite,
)
from hubdelta.indexer.engines.hidden_states import hidden_states
from hubdelta.indexer.engines.out_of_memory import is_out_of_memory
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason
from hubdelta.schemas.words import counted

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PREFIXES: Final = (peft.PeftType.PREFIX_TUNING, peft.PeftType.CARTRIDGE)
"""Methods whose parameters go into the cache of keys and values."""


class ReferenceEngine(Engine):
    """PEFT's own modules on the base, inserted and removed for each adapter.

    Attributes:
        baseline: the base's own answer.
    """

    name = "reference"
    precision = "fp32"

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._guard = BaseGuard(base.model, base.read_again)
        try:
            activations = hidden_states(base.model, base.probes, base.readout)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # Some image-text models do not run without an image.
            raise HubdeltaError(
                f"a {base.model_type} cannot be run on text alone: {brief(error)}"
            ) from error
        # The batch changes the shapes of the matrix products and so the order of their sums, which
        # is the only possible difference.
        repeated = [probe.repeat(4, 1) for probe in base.probes]
        batched = hidden_states(base.model, repeated, base.readout)
        floor = noise_floor(activations, [batched])
        self.baseline = Baseline(self.name, self.precision, activations, floor)

    def can_embed(self, adapter: Adapter) -> bool:
        """Any adapter that PEFT can load; whole models go to the streamed engine."""
        return not isinstance(adapter, FullFinetune)

    def steps(self, adapters: Sequence[Adapter]) -> Iterator[tuple[int, Adapter]]:
        """The adapters one by one, each with its place."""
        yield from enumerate(adapters)

    def run(self, step: tuple[int, Adapter]) -> Iterator[Result]:
        """Insert one adapter, run it, and remove it again.

        A failure that is not the adapter's fault, such as modules created in another thread at the
        same moment, is retried once while no other modules are created.

        Raises:
            HubdeltaError: the base no longer answers as before.
        """
        place, adapter = step

        def work() -> Answer:
            return Answer(self._run(adapter), self.baseline)

        result = attempt(adapter.key, work, self._check)
        if isinstance(result, AdapterError) and result.reason is Reason.ENGINE:
            logger.info("%s: retrying it alone: %s", adapter.key, result)
            with BUILDING:
                result = attempt(adapter.key, work, self._check)
        yield place, result

    def _is_sound(self) -> bool:
        now = self._states(self._base.model)
        return np.array_equal(now, self.baseline.activations)

    def _states(self, model: torch.nn.Module) -> Activations:
        return hidden_states(model, self._base.probes, self._base.readout)

    def _run(self, adapter: Adapter) -> Activations:
        activations = self.with_adapter(adapter, self._states)
        if not np.isfinite(activations).all():
            raise not_finite(self.precision)
        return activations

    def with_adapter(self, adapter: Adapter, work: Callable[[torch.nn.Module], T]) -> T:
        """What some work on the base with an adapter gives; the base is as before afterwards.

        Args:
            adapter: a PEFT adapter.
            work: takes the base, wrapped by PEFT.

        Raises:
            AdapterError: PEFT cannot load the adapter, or it does not fit.
            HubdeltaError: the base no longer answers as before.
        """
        if isinstance(adapter, FullFinetune):
            raise TypeError(f"{adapter.key} is a whole model, not an adapter")
        model = self._base.model
        config = peft_config(adapter.config, self._base)
        _reject_prefix(config, model)
        counting = tensors_that_count(adapter, self._base)
        rows: int | None = model.get_input_embeddings().weight.shape[0]
        if any("embed_tokens.lora_magnitude" in name for name in counting):
            rows = None  # DoRA's norms are over the whole vocabulary, so it must be the base's
        tensors = {name: _without_added(name, t, rows).float() for name, t in counting.items()}
        with self._guard.lent(_written(tensors, model)):
            return self._run_peft(model, config, tensors, work)

    def _run_peft(
        self,
        model: PreTrainedModel,
        config: Any,
        tensors: dict[str, torch.Tensor],
        work: Callable[[torch.nn.Module], T],
    ) -> T:
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
            except (RuntimeError, KeyError, ValueError, ImportError) as error:
                raise _unmade(config, error) from error
            except (TypeError, AttributeError, NotImplementedError) as error:
                raise AdapterError(Reason.UNSUPPORTED_ADAPTER, one_line(error)) from error
            try:
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
                f"({counted(len(unexpected), 'such tensor')})",
            )
        missing = sorted(
            name
            for name in expected.keys() - tensors.keys()
            if not COPY.search(name) and not self._base.is_unreached(name.removeprefix(PREFIX))
        )
        if tensors.keys() - expected.keys():
            # PEFT renamed them to current names, as it does with the experts of older MoE models.
            missing = sorted(name for name in result.missing_keys if ".lora_" in name)
        if missing:
            raise AdapterError(
                Reason.CORRUPT,
                f"tensor {missing[0]} is missing from the weights "
                f"({counted(len(missing), 'such tensor')})",
            )
        try:
            with BUILDING:  # some PEFT modules create others as they run: target_parameters
                return work(wrapped)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if not config.is_prompt_learning or is_out_of_memory(error):
                raise
            # A learned prefix goes into the cache, whose format changes between transformers
            # versions, and PEFT does not know how many heads each family keeps there. A lost GPU
            # fails too.
            self._check(error)
            what = f"the installed peft cannot run {config.peft_type.value} on this base: {error}"
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, what) from error


def _unmade(config: Any, error: Exception) -> AdapterError:
    """Why PEFT cannot create an adapter's modules."""
    init = getattr(config, "init_lora_weights", True)
    if init not in INITS_THAT_KEEP_THE_BASE:
        return AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"PEFT cannot repeat what init_lora_weights={init} took from the base at the start "
            f"({one_line(error)}): ask its author for the adapter converted to plain LoRA "
            "(save_pretrained with path_initial_model_for_weight_conversion)",
        )
    if isinstance(error, ImportError):
        return AdapterError(Reason.UNSUPPORTED_ADAPTER, one_line(error))
    return AdapterError(Reason.BASE_MISMATCH, one_line(error))


def _reject_prefix(config: Any, model: PreTrainedModel) -> None:
    """Reject a learned prefix if some layers would never see it.

    A prefix consists of keys and values in the cache of attention layers. Layers with a recurrent
    state (Mamba, RWKV, linear attention) have no such cache: PEFT omits the prefix there, or
    everywhere, and the result is meaningless.

    Raises:
        AdapterError: unsupported_adapter.
    """
    if config.peft_type not in _PREFIXES:
        return
    kinds = getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()
    recurrent = [kind for kind in kinds if "attention" not in kind or "linear" in kind]
    if recurrent or getattr(model, "_is_stateful", False):
        kind = f"{recurrent[0]} layers" if recurrent else "recurrent layers"
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"{config.peft_type.value} puts learned keys and values before the prompt, which the "
            f"{kind} of this base never read",
        )


def _written(tensors: Iterable[str], model: PreTrainedModel) -> set[str]:
    """Names of the base's own parameters that an adapter overwrites, such as biases."""
    own = dict(model.named_parameters())
    plain = (name.removeprefix(PREFIX).replace(".base_layer.", ".") for name in tensors)
    return {name for name in plain if name in own}


def _without_added(name: str, tensor: torch.Tensor, rows: int | None) -> torch.Tensor:
    """A tensor of the input embedding without added tokens, which no probe contains."""
    if name.endswith("embed_tokens.lora_embedding_A"):
        return tensor[:, :rows]
    of_table = name.endswith(("embed_tokens.weight", "embed_tokens.base_layer.weight"))
    return tensor[:rows] if of_table else tensor
