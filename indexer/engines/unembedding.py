"""A base's output layer: which tokens a change of the last hidden state promotes or suppresses.

Our hidden state is the one after the final norm, so the output layer turns a delta into the change
of every token's logit. It is applied by the model's own class, whose body is replaced by one that
returns given states. So factors, soft caps and biases are those of its architecture, whatever they
are called there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from transformers.modeling_outputs import BaseModelOutput

from hubdelta.indexer.adapters.checkpoint import open_folder
from hubdelta.indexer.base_structure import LOADING_ERRORS, BaseStructure, below_head, brief
from hubdelta.indexer.engines.streamed.naming import Source, find_names
from hubdelta.schemas.errors import HubdeltaError

_BLOCK_BYTES: Final = 128 << 20  # of the output layer's weight in fp32, at a time
_LINEAR: Final = 1e-3  # relative error up to which an output layer counts as linear


class Extremes(NamedTuple):
    """The tokens whose logits change most.

    Attributes:
        tokens: token ids, int64 [deltas, k]; the strongest first.
        changes: of their logits, float32 [deltas, k].
    """

    tokens: torch.Tensor
    changes: torch.Tensor


class _Body(torch.nn.Module):
    """Stands for the layers below the head: whatever it is asked, it returns the given states."""

    states: torch.Tensor

    @property
    def decoder(self) -> "_Body":
        """Itself: OPT's head calls the decoder inside."""
        return self

    def forward(self, *_: Any, **__: Any) -> "_States":
        return _States(self.states)


class _States:
    """An output of a body that has a last hidden state and nothing else."""

    def __init__(self, states: torch.Tensor) -> None:
        self.last_hidden_state = states

    def __getitem__(self, place: Any) -> Any:
        return (self.last_hidden_state,)[place]

    def __getattr__(self, name: str) -> None:
        return None


class Unembedding:
    """The output layer of a base, read block by block.

    Args:
        folder: a transformers folder of the base, with its weights.

    Raises:
        HubdeltaError: it holds no language model with an output layer.

    Attributes:
        vocabulary: how many tokens have a logit.
    """

    def __init__(self, folder: Path) -> None:
        structure = BaseStructure.read(folder)
        self._model, self._body = structure.model, _Body()
        output = self._model.get_output_embeddings()
        if structure.output_layer is None or not isinstance(output, torch.nn.Linear):
            raise HubdeltaError(f"the base in {folder} has no output layer of a known kind")
        self._name, self._has_bias = structure.output_layer, output.bias is not None
        self.vocabulary, self._hidden = output.out_features, output.in_features
        self._checkpoint = open_folder(folder)
        self._names = find_names(self._model, self._checkpoint.tensors.keys()).sources
        if f"{self._name}.weight" not in self._names:
            raise HubdeltaError(f"the weights in {folder} hold no output layer")
        self._model.set_submodule(self._name_of_body(), self._body)
        if hasattr(self._model, "final_logits_bias"):  # BART's: the same for all states
            self._model.final_logits_bias = torch.zeros(1, 1)
        try:
            self._try()
        except LOADING_ERRORS as error:
            raise HubdeltaError(
                f"the output layer of the base in {folder} is not a linear one: {brief(error)}"
            ) from error

    def _name_of_body(self) -> str:
        """Name of the part whose states the head takes; "" if the head is inside it."""
        if not self._model.config.is_encoder_decoder:
            return below_head(self._model)[1].removesuffix(".")
        decoder = self._model.get_decoder()
        names = (name for name, module in self._model.named_modules() if module is decoder)
        return str(next(names))

    @torch.inference_mode()
    def _try(self) -> None:
        """Compute the first logits of nothing: a head of several layers lacks the others' weights.

        Raises:
            LOADING_ERRORS: what transformers and torch raise.
        """
        next(self._blocks())
        self._logits(torch.zeros(1, self._hidden))

    def extremes(
        self, deltas: torch.Tensor, center: torch.Tensor, states: torch.Tensor, *, k: int
    ) -> tuple[Extremes, Extremes]:
        """The tokens that deltas promote most, and those that they suppress most.

        A token's change is the mean over the base's states h of logits(h + delta) - logits(h), less
        that of the center. Where logits are linear in the state, that is W (delta - center).

        Args:
            deltas: fp32 [deltas, hidden].
            center: what to subtract, such as the mean of all deltas, fp32 [hidden].
            states: the base's own for each probe, fp32 [probes, hidden].
            k: how many of each.
        """
        best = worst = None
        for start, change in self._changes(torch.cat([deltas, center[None]]), states):
            relative = change[:-1] - change[-1:]
            best = _merged(best, relative, start, k)
            worst = _merged(worst, -relative, start, k)
        if best is None or worst is None:
            raise HubdeltaError("the output layer has no tokens")
        return best, Extremes(worst.tokens, -worst.changes)

    def products(
        self, rows: torch.Tensor, columns: torch.Tensor, states: torch.Tensor
    ) -> torch.Tensor:
        """Inner products of the changes of all tokens' logits, which are never held together.

        Of each adapter's changes their mean over all tokens is subtracted: what shifts all logits
        alike leaves every probability as it is.

        Args:
            rows: deltas, fp32 [rows, hidden].
            columns: deltas, fp32 [columns, hidden].
            states: as for `extremes`.

        Returns:
            float64 [rows, columns].
        """
        every = torch.cat([rows, columns])
        found = torch.zeros(len(rows), len(columns), dtype=torch.float64)
        sums = torch.zeros(len(every), dtype=torch.float64)
        for _, change in self._changes(every, states):
            exact = change.double()
            found += exact[: len(rows)] @ exact[len(rows) :].T
            sums += exact.sum(1)
        return found - sums[: len(rows), None] * sums[len(rows) :] / self.vocabulary

    @torch.inference_mode()
    def _changes(
        self, deltas: torch.Tensor, states: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The first token of each block, and the changes of its tokens' logits [deltas, tokens]."""
        for start in self._blocks():
            zero, probe = torch.zeros_like(states[:1]), states[:1]
            nothing = self._logits(zero)
            both = self._logits(2 * probe) - nothing
            once = self._logits(probe) - nothing
            if (both - 2 * once).norm() <= _LINEAR * both.norm():
                yield start, self._logits(deltas) - nothing
                continue
            change = torch.zeros(len(deltas), nothing.shape[1])
            for state in states:
                change += self._logits(deltas + state) - self._logits(state[None])
            yield start, change / len(states)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logits of hidden states, without a bias that is the same for all states of BART.

        Args:
            states: after the final norm, fp32 [states, hidden].

        Returns:
            fp32 [states, vocabulary].
        """
        with torch.inference_mode():
            return torch.cat([self._logits(states) for _ in self._blocks()], 1)

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logits of the tokens of the present block, [states, tokens]."""
        self._body.states = states[:, None]
        ids = torch.zeros(len(states), 1, dtype=torch.int64)
        if self._model.config.is_encoder_decoder:
            answer = self._model(
                encoder_outputs=BaseModelOutput(self._body.states),
                decoder_input_ids=ids,
                use_cache=False,
            )
        else:
            answer = self._model(input_ids=ids, use_cache=False)
        logits: torch.Tensor = answer.logits[:, -1].float()
        return logits

    def _blocks(self) -> Iterator[int]:
        """Put one block of rows after another into the model; gives the first row of each."""
        size = max(1, _BLOCK_BYTES // (4 * self._hidden))
        for start in range(0, self.vocabulary, size):
            rows = range(start, min(start + size, self.vocabulary))
            layer = torch.nn.Linear(self._hidden, len(rows), bias=self._has_bias, device="meta")
            layer.weight = self._parameter("weight", rows)
            if self._has_bias:
                layer.bias = self._parameter("bias", rows)
            self._model.set_submodule(self._name, layer)
            yield start

    def _parameter(self, kind: str, rows: range) -> torch.nn.Parameter:
        source: Source = self._names[f"{self._name}.{kind}"]
        if source.converter is None:
            values = self._checkpoint.read_rows(next(iter(source.tensors)), rows)
        else:
            tensors = self._checkpoint.read(list(source.tensors))
            values = source.make(tensors, self._model)[source.target][rows.start : rows.stop]
        return torch.nn.Parameter(values.float(), requires_grad=False)


def _merged(known: Extremes | None, changes: torch.Tensor, start: int, k: int) -> Extremes:
    """The k largest of those known and of a block's changes [deltas, tokens]."""
    top = changes.topk(min(k, changes.shape[1]), dim=1)
    tokens, values = top.indices + start, top.values
    if known is not None:
        tokens, values = torch.cat([known.tokens, tokens], 1), torch.cat([known.changes, values], 1)
    order = values.topk(min(k, values.shape[1]), dim=1)
    return Extremes(tokens.gather(1, order.indices), order.values)
