"""The base model of a family: its weights, tokenizer and tokenized probes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from hubdelta.indexer.base_structure import (
    LOADING_ERRORS,
    BaseStructure,
    brief,
    language_model_class,
    layer_shapes,
    quiet_transformers,
    read_config,
    without_weights,
)
from hubdelta.indexer.building import BUILDING
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.readout import PAPERS, Readout
from hubdelta.indexer.recipe import MAX_PROBE_TOKENS
from hubdelta.schemas.errors import HubdeltaError
from hubdelta.schemas.words import counted


class IncompleteModelError(Exception):
    """A checkpoint lacks some weights of its architecture."""


@dataclass(frozen=True)
class BaseModel(BaseStructure):
    """A base model with its weights, and the probes as tokenized by its tokenizer.

    Attributes:
        probes: token ids of each probe, int64 [1, tokens]; an encoder-decoder's encoder reads them.
        readout: which hidden states of a probe engines return.
    """

    probes: tuple[torch.Tensor, ...]
    readout: Readout = PAPERS

    @cached_property
    def decoder_start(self) -> int | None:
        """The token that an encoder-decoder's decoder starts with; None for other bases."""
        return decoder_start(self.model)

    def read_again(self) -> PreTrainedModel:
        """The same model from its folder, as it was when it was loaded.

        Raises:
            RuntimeError: the folder no longer holds it.
        """
        try:
            model = load_language_model(self.folder)
        except (*LOADING_ERRORS, IncompleteModelError) as error:
            raise RuntimeError(f"{self.folder} cannot be read again: {error}") from error
        return model.to(self.model.device)

    @classmethod
    def load(
        cls,
        folder: Path,
        probe_set: ProbeSet,
        *,
        readout: Readout = PAPERS,
        device: str = "cpu",
        as_stored: bool = False,
    ) -> "BaseModel":
        """Read a base from a transformers folder.

        Args:
            folder: holds config.json, the weights and the tokenizer.
            probe_set: the prompts; tokenized with the tokenizer's default special tokens.
            readout: which hidden states of a probe engines return.
            device: where the model is to run.
            as_stored: keep the weights in their stored dtype instead of fp32.

        Raises:
            HubdeltaError: the folder does not hold a language model with a tokenizer.
        """
        quiet_transformers()
        try:
            model = load_language_model(folder, as_stored=as_stored).to(device)
        except (*LOADING_ERRORS, IncompleteModelError) as error:
            raise _unloadable(folder, error) from error
        probes = tuple(ids.to(device) for ids in tokenized(folder, probe_set))
        return cls(folder, model, layer_shapes(model), probes, readout)


def _unloadable(folder: Path, error: Exception) -> HubdeltaError:
    try:
        settings = getattr(read_config(folder), "quantization_config", None)
    except LOADING_ERRORS:
        settings = None
    if settings:
        method = settings.get("quant_method", "unknown")
        return HubdeltaError(
            f"the base is quantized ({method}) and cannot be loaded here: name the model it was "
            f"made from, or install what transformers needs ({brief(error)})"
        )
    return HubdeltaError(f"the base in {folder} cannot be loaded: {brief(error)}")


def tokenized(folder: Path, probe_set: ProbeSet) -> tuple[torch.Tensor, ...]:
    """Token ids of each probe, int64 [1, tokens], by the base's tokenizer.

    Raises:
        HubdeltaError: the folder holds no tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    return tuple(
        tokenizer(prompt, truncation=True, max_length=MAX_PROBE_TOKENS, return_tensors="pt")[
            "input_ids"
        ]
        for prompt in probe_set.prompts
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a base.

    Raises:
        HubdeltaError: the folder holds no tokenizer.
    """
    try:
        return AutoTokenizer.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise HubdeltaError(f"the base's tokenizer cannot be loaded: {brief(error)}") from error


def decoder_start(model: PreTrainedModel) -> int | None:
    """The token with which a model's decoder starts; None if it has no encoder.

    Raises:
        HubdeltaError: it has one, but no file in its folder names that token.
    """
    if not model.config.is_encoder_decoder:
        return None
    return start_token(model.generation_config.to_dict())


def start_token(settings: Mapping[str, Any]) -> int:
    """The first token of a decoder, found as in transformers' generate().

    Args:
        settings: the content of generation_config.json or, if absent, of config.json.

    Raises:
        HubdeltaError: it is missing.
    """
    for name in ("decoder_start_token_id", "bos_token_id"):
        if isinstance(token := settings.get(name), int):
            return token
    raise HubdeltaError("the base's config.json names no decoder_start_token_id")


def load_language_model(folder: Path, *, as_stored: bool = False) -> PreTrainedModel:
    """Load a language model in evaluation mode, without running its own code.

    Args:
        folder: holds config.json and the weights.
        as_stored: keep the weights in their stored dtype instead of fp32.

    Raises:
        IncompleteModelError: weights are missing or have the wrong shape; transformers would fill
            them with random numbers. The output layer may be missing: nothing here needs it.
        LOADING_ERRORS: what transformers raises.
    """
    model: PreTrainedModel
    config = read_config(folder)
    with BUILDING:
        model, loaded = language_model_class(config).from_pretrained(
            folder,
            dtype="auto" if as_stored else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    output = model.get_output_embeddings()
    unneeded = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if output is not None and any(parameter is own for own in output.parameters())
    }
    missing = sorted(set(loaded["missing_keys"]) - unneeded)
    if missing:
        raise IncompleteModelError(
            f"tensor {missing[0]} is missing from the weights "
            f"({counted(len(missing), 'such tensor')})"
        )
    for name, stored, wanted in sorted(loaded["mismatched_keys"]):
        raise IncompleteModelError(
            f"tensor {name} has shape {list(stored)}, where {list(wanted)} is expected"
        )
    if as_stored:
        _buffers_in_fp32(model)
    model.eval()
    return model


def _buffers_in_fp32(model: PreTrainedModel) -> None:
    """Give a half-precision model the buffers of one in fp32.

    What its code computes on construction, such as Gemma's embedding factor, is rounded to the
    weights' dtype: a relative error of 1e-3 that is in no file.
    """
    twin = without_weights(model.config)
    own = dict(model.named_buffers())
    for name, buffer in twin.named_buffers():
        if buffer.is_floating_point() and own[name].dtype != buffer.dtype:
            module, _, part = name.rpartition(".")
            setattr(model.get_submodule(module), part, buffer)
