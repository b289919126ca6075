"""From token ids through a base to the hidden states that the recipe defines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubdelta.indexer.base_structure import below_head
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.edits.structure import LeafInputs, structural_copy
from hubdelta.indexer.engines.layer_state import caught_before, layer_count, layers_of
from hubdelta.indexer.engines.pooling import pooled
from hubdelta.indexer.engines.stacked.rows import Ends
from hubdelta.indexer.readout import PAPERS, Readout


class UnstackableError(Exception):
    """A model's last hidden state cannot be obtained from its forward pass in the usual way."""


@dataclass(frozen=True)
class ForwardPass:
    """Runs the part of a language model below its head.

    Attributes:
        model: a transformers model without a head.
        decoder_start: the token that its decoder starts with; None if it has no encoder.
        readout: which hidden states of a row count.
        before: the layer before which they are read; None for after the final norm.
    """

    model: nn.Module
    decoder_start: int | None
    readout: Readout = PAPERS
    before: nn.Module | None = None

    @classmethod
    def through(cls, model: nn.Module, base: BaseModel) -> "ForwardPass":
        """A pass through a copy of a base's part below its head.

        Raises:
            HubdeltaError: the base has no layers that can be told apart, and one is to be read.
        """
        before, layer = None, base.readout.layer
        if layer is not None:
            before = layers_of(model, layer_count(base.model.config))[layer]
        return cls(model, base.decoder_start, base.readout, before)

    def __call__(self, ids: torch.Tensor, ends: Ends) -> torch.Tensor:
        """Hidden states [rows, hidden] for token ids [rows, tokens].

        Rows without padding need no mask: the default is causal attention, or full attention in an
        encoder.
        """
        model: Any = self.model
        if self.before is not None:
            with caught_before(self.before, stop=True) as seen:
                model(input_ids=ids, use_cache=False)
            return pooled(seen[0], self.readout, ends.at)
        start = self._start(ids)
        if start is None:
            output = model(input_ids=ids, use_cache=False)
        else:
            read = model.get_encoder()(input_ids=ids).last_hidden_state
            decoder = model.get_decoder()
            output = decoder(input_ids=start, encoder_hidden_states=read, use_cache=False)
        return pooled(output.last_hidden_state, self.readout, ends.at)

    def inputs(self, ids: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The arguments of the model's own forward pass for these ids: name → token ids."""
        start = self._start(ids)
        return {"input_ids": ids} | ({} if start is None else {"decoder_input_ids": start})

    def watched(self, sample: torch.Tensor) -> tuple[LeafInputs, torch.Tensor]:
        """Run the whole model unchanged.

        Args:
            sample: token ids [rows, tokens].

        Returns:
            Its modules' inputs, and the hidden states [rows, hidden].

        Raises:
            UnstackableError: the output does not have these.
        """
        with caught_before(self.before, stop=False) as seen:
            inputs, output = LeafInputs.seen_by(self.model, self.inputs(sample))
        return inputs, pooled(seen[0], self.readout) if seen else self._wanted(output)

    def _wanted(self, output: Any) -> torch.Tensor:
        """Final hidden states [rows, hidden] from the output of the model's own forward pass."""
        last: torch.Tensor | None = getattr(output, "last_hidden_state", None)
        if last is None and self.decoder_start is not None:  # T5's head is Identity here
            last = output.decoder_hidden_states[-1]
        if last is None:
            raise UnstackableError("it does not return its last hidden state")
        return pooled(last, self.readout)

    def _start(self, ids: torch.Tensor) -> torch.Tensor | None:
        """The decoder's input [rows, 1], if there is a decoder."""
        if self.decoder_start is None:
            return None
        return torch.full_like(ids[:, :1], self.decoder_start)


def headless(base: BaseModel) -> tuple[nn.Module, str]:
    """A base without the layer that computes logits, and the prefix of its modules' names.

    Most families have a separate module for everything below the head; T5 does not. Tensors are
    shared with the base.
    """
    inner, prefix = below_head(base.model)
    if prefix:
        return inner, prefix
    if base.is_encoder_decoder and base.output_layer is not None:
        inner = structural_copy(inner)
        inner.set_submodule(base.output_layer, nn.Identity())
    return inner, ""
