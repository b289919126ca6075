"""The base model of a family: its weights, its tokenizer, its probes as tokens."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from hubdelta.indexer.engine import BUILDING
from hubdelta.indexer.probes import ProbeSet
from hubdelta.indexer.recipe import MAX_PROBE_TOKENS
from hubdelta.schemas.errors import HubdeltaError

logger = logging.getLogger(__name__)

LOADING_ERRORS = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises when a folder does not hold a model that it can load."""


class IncompleteModelError(Exception):
    """A checkpoint does not hold all weights of its architecture."""


@dataclass(frozen=True)
class BaseModel:
    """A base model, and the probes as its tokenizer cuts them.

    Attributes:
        folder: the transformers folder that it was read from.
        model: the causal language model, in evaluation mode.
        probes: token ids of each probe, int64 [1, tokens].
        shapes: module name → (out_features, in_features) of every linear and embedding layer.
    """

    folder: Path
    model: PreTrainedModel
    probes: tuple[torch.Tensor, ...]
    shapes: Mapping[str, tuple[int, int]]

    @classmethod
    def load(
        cls, folder: Path, probe_set: ProbeSet, *, device: str = "cpu", as_stored: bool = False
    ) -> "BaseModel":
        """Read a base from a transformers folder.

        Args:
            folder: holds config.json, the weights and the tokenizer.
            probe_set: the prompts; tokenized with the tokenizer's default special tokens.
            device: where the model is to run.
            as_stored: keep the weights in the type in which they are stored, instead of fp32.

        Raises:
            HubdeltaError: the folder does not hold a causal language model with a tokenizer.
        """
        _quiet_transformers()
        try:
            model = load_causal_lm(folder, as_stored=as_stored).to(device)
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (*LOADING_ERRORS, IncompleteModelError) as error:
            raise HubdeltaError(f"the base in {folder} cannot be loaded: {error}") from error
        probes = tuple(
            tokenizer(prompt, truncation=True, max_length=MAX_PROBE_TOKENS, return_tensors="pt")[
                "input_ids"
            ].to(device)
            for prompt in probe_set.prompts
        )
        return cls(folder, model, probes, _shapes(model))

    @cached_property
    def output_layer(self) -> str | None:
        """Name of the layer that makes logits, as in lm_head: nothing here ever needs it."""
        output = self.model.get_output_embeddings()
        return next((name for name, module in self.model.named_modules() if module is output), None)

    def is_above_hidden_state(self, name: str) -> bool:
        """Whether a tensor or module of that name belongs to the output layer."""
        output = self.output_layer
        return output is not None and (name == output or name.startswith(f"{output}."))

    @property
    def hidden_size(self) -> int:
        """d, the length of a hidden state."""
        return int(self.model.config.hidden_size)

    @property
    def model_type(self) -> str:
        """The architecture, as config.json names it."""
        return str(self.model.config.model_type)


def load_causal_lm(folder: Path, *, as_stored: bool = False) -> PreTrainedModel:
    """Load a causal language model, in evaluation mode, running no code of its own.

    Args:
        folder: holds config.json and the weights.
        as_stored: keep the weights in the type in which they are stored, instead of fp32.

    Raises:
        IncompleteModelError: weights are missing or of another shape; transformers would fill
            them with random numbers. The output layer may be missing: nothing here needs it.
        LOADING_ERRORS: what transformers raises.
    """
    model: PreTrainedModel
    model, loaded = AutoModelForCausalLM.from_pretrained(
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
            f"tensor {missing[0]} is missing from the weights ({len(missing)} such tensors)"
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
    """Give a model of half precision the buffers of one in fp32.

    What its code computes when it is built, such as Gemma's factor of embeddings, comes out
    rounded to the type of the weights: a relative error of 1e-3 that is in no file.
    """
    with BUILDING, init_empty_weights(include_buffers=False):
        twin = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    own = dict(model.named_buffers())
    for name, buffer in twin.named_buffers():
        if buffer.is_floating_point() and own[name].dtype != buffer.dtype:
            module, _, part = name.rpartition(".")
            setattr(model.get_submodule(module), part, buffer)


def _shapes(model: PreTrainedModel) -> dict[str, tuple[int, int]]:
    shapes: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            shapes[name] = (module.out_features, module.in_features)
        elif isinstance(module, Conv1D):
            shapes[name] = (module.nf, module.nx)
        elif isinstance(module, torch.nn.Embedding):
            shapes[name] = (module.embedding_dim, module.num_embeddings)
    return shapes


def _quiet_transformers() -> None:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
