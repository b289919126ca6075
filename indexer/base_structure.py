"""A base model without its weights: its modules, their shapes, its vocabulary."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from hubdelta.indexer.building import BUILDING
from hubdelta.indexer.memory import LargeTensorsApart
from hubdelta.schemas.errors import HubdeltaError

LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError),
    *(SafetensorError, StrictDataclassError),
)
"""What transformers raises when a folder does not hold a model that it can load."""

_OF_OTHER_MEDIA: Final = re.compile(
    r"(?:.+\.)?(?:visual|vision\w*|vpm|vit|image_\w+|img_\w+|multi_modal_projector|mm_projector"
    r"|multimodal_projector|patch_merger|connector|aligner|resampler|audio\w*|embed_vision"
    r"|embed_audio|mlp1)(?:\.|$)"
)
"""Names of what images or audio pass through."""


@dataclass(frozen=True)
class BaseStructure:
    """The modules of a base model; enough to decide whether an adapter fits it.

    Attributes:
        folder: the transformers folder that it was read from.
        model: the language model; its weights may be on the meta device.
        shapes: module name → (out_features, in_features) of every linear and embedding layer.
    """

    folder: Path
    model: PreTrainedModel
    shapes: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, folder: Path) -> "BaseStructure":
        """Read a structure from a folder's config.json alone, in about a second.

        Raises:
            HubdeltaError: it does not describe a language model that transformers knows.
        """
        quiet_transformers()
        try:
            model = without_weights(read_config(folder))
        except LOADING_ERRORS as error:
            raise HubdeltaError(f"the base in {folder} cannot be loaded: {brief(error)}") from error
        return BaseStructure(folder, model, layer_shapes(model))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all modules and parameters, which adapters' patterns are matched against."""
        modules = (name for name, _ in self.model.named_modules())
        parameters = (name for name, _ in self.model.named_parameters(remove_duplicate=False))
        return (*modules, *parameters)

    @cached_property
    def output_layer(self) -> str | None:
        """Name of the layer that computes logits, such as lm_head: nothing here needs it."""
        output = self.model.get_output_embeddings()
        return next((name for name, module in self.model.named_modules() if module is output), None)

    def is_unreached(self, name: str) -> bool:
        """Whether a text's last hidden state cannot depend on a tensor or module of that name.

        It belongs to the head, or to what images or audio pass through. Of a name that the base
        does not have, nothing is known.
        """
        module = f"{name}."
        while (module := module.rpartition(".")[0]) and module not in self._modules:
            pass
        if not module:
            return False
        output, text = self.output_layer, self._text_part
        if output is not None and f"{module}.".startswith(f"{output}."):
            return True
        body = self._body
        if not f"{module}.".startswith(body) and not body.startswith(f"{module}."):
            return True
        inside = text is not None and f"{module}.".startswith(f"{text}.")
        return is_of_other_media(module) and not inside

    @cached_property
    def _modules(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.model.named_modules())

    @cached_property
    def _body(self) -> str:
        """Prefix of the names below the head; "" if a head is inside."""
        return below_head(self.model)[1]

    @cached_property
    def _text_part(self) -> str | None:
        """Name of the part that holds the text layers; None if it is the model itself."""
        part = self.model.get_decoder()
        names = (name for name, module in self.model.named_modules() if module is part)
        return next(filter(None, names), None)

    @property
    def hidden_size(self) -> int:
        """d, the length of a hidden state; T5 and BART call it d_model."""
        return int(self.model.config.get_text_config(decoder=True).hidden_size)

    @property
    def model_type(self) -> str:
        """The architecture, as config.json names it."""
        return str(self.model.config.model_type)

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads the probe, and the hidden state is a decoder's."""
        return bool(self.model.config.is_encoder_decoder)


def is_of_other_media(name: str) -> bool:
    """Whether a module or tensor of that name is one that images or audio pass through."""
    return _OF_OTHER_MEDIA.match(name) is not None


def read_config(folder: Path) -> PreTrainedConfig:
    """Read a model's config.json without running its code.

    Raises:
        LOADING_ERRORS: what transformers raises.
    """
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return config


def language_model_class(config: PreTrainedConfig) -> type[AutoModelForCausalLM]:
    """The transformers class for models of such a config; all of them work alike.

    Some families have no text-only class (Qwen3-VL, Mistral 3): an image-text model responds to a
    text like its text part.

    Raises:
        ValueError: transformers has neither, as for speech models.
    """
    chosen: type[AutoModelForCausalLM] = AutoModelForCausalLM
    if config.is_encoder_decoder:
        chosen = AutoModelForSeq2SeqLM
    elif (
        type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
        and type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    ):
        chosen = AutoModelForImageTextToText
    if type(config) not in chosen._model_mapping:
        raise ValueError(f"transformers has no language model of type {config.model_type}")
    return chosen


def brief(error: Exception) -> str:
    """A transformers error message on one line, cut off, since it may contain long lists."""
    return " ".join(str(error).split())[:300]


def without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    """A language model in fp32 whose parameters are on the meta device; buffers are computed.

    Raises:
        LOADING_ERRORS: what transformers raises.
    """
    with BUILDING, LargeTensorsApart(), init_empty_weights(include_buffers=False):
        model: PreTrainedModel = language_model_class(config).from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=False,
        )
    return model.eval()


def below_head(model: PreTrainedModel) -> tuple[torch.nn.Module, str]:
    """The part of a language model that returns its last hidden state, without the head on top.

    Not `hidden_states[-1]`, which is something else in some families (Gemma 3n keeps four streams
    apart there).

    Returns:
        The part, and the prefix of its modules' names in the model; the model itself and "" if
        every part of it has a head, as in T5.
    """
    body: torch.nn.Module = model.base_model
    while body is model or _has_head(body):
        if model.config.is_encoder_decoder or not (parts := _parts(body)):
            return model, ""
        body = parts[0]
    name = next(name for name, module in model.named_modules() if module is body)
    return body, f"{name}."


def _has_head(model: torch.nn.Module) -> bool:
    return isinstance(model, PreTrainedModel) and model.get_output_embeddings() is not None


def _parts(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The models inside a model, starting with the one that holds its text layers.

    Llama 4's names differ from what `base_model` looks for, and one of its parts has another head.
    """
    decoder = model.get_decoder() if isinstance(model, PreTrainedModel) else model
    inside = [part for part in model.children() if isinstance(part, PreTrainedModel)]
    return [part for part in (decoder, *inside) if part is not model]


def layer_shapes(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    """Module name → (out_features, in_features) of every linear and embedding layer."""
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.nf, module.nx)
        elif isinstance(module, torch.nn.Embedding):
            shapes[name] = (module.embedding_dim, module.num_embeddings)
    return shapes


def quiet_transformers() -> None:
    """Keep transformers' warnings and progress bars off the terminal."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
