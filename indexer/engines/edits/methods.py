"""The PEFT methods, each read from an adapter's tensors for one module.

Those whose ΔW is another product than LoRA's are in factored_methods.py and whole_methods.py.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from hubdelta.indexer.engines.edits import factored_methods, whole_methods
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits, LowRank
from hubdelta.indexer.engines.edits.norms import row_norms
from hubdelta.indexer.engines.edits.site import Site, Tensors
from hubdelta.indexer.engines.edits.structure import dense_shape, is_dense, stored_shape
from hubdelta.schemas.errors import AdapterError, Reason


def table_rows(site: Site, table: nn.Embedding, tokens: torch.Tensor) -> torch.Tensor:
    """The rows of an embedding once an adapter is applied to it.

    Args:
        site: the embedding's.
        table: the base's embedding.
        tokens: ids of the wanted rows, int64 [tokens].

    Returns:
        [tokens, columns], fp32.

    Raises:
        AdapterError: a tensor does not fit, or is missing.
    """
    own, tokens = table.weight.detach().cpu(), tokens.cpu()
    columns = table.embedding_dim
    if "weight" in site:
        own = site["weight"].float()
        # A vocabulary enlarged by finetuning still holds every token of the probes.
        if own.dim() != 2 or own.shape[1] != columns or own.shape[0] <= int(tokens.max()):
            raise site.misfit("weight", (table.num_embeddings, columns))
    rows = own[tokens].float()
    if "lora_embedding_A" in site:
        rank, scale = site.rank_and_scale()
        down = site["lora_embedding_A"].float()
        # Added tokens have columns too, but no probe contains them.
        wanted = (rank, own.shape[0])
        if down.dim() != 2 or down.shape[0] != rank or down.shape[1] <= int(tokens.max()):
            raise site.misfit("lora_embedding_A", wanted)
        if "lora_magnitude_vector" in site:  # its norms are over the whole vocabulary
            down = site.shaped("lora_embedding_A", wanted).float()
        up = site.shaped("lora_embedding_B", (columns, rank)).float()
        rows = rows + scale * down[:, tokens].T @ up.T
        if "lora_magnitude_vector" in site:
            magnitude = site.shaped("lora_magnitude_vector", (columns,)).float()
            norms = row_norms(own.float().T, down[None], scale * up[None])[0]
            rows = rows * magnitude / norms
    if "trainable_tokens_delta" in site:
        indices = torch.tensor(site.token_indices(), dtype=torch.int64)
        if (indices < 0).any():  # indices above the vocabulary are added tokens
            raise AdapterError(
                Reason.CORRUPT, f"{site.name} has rows for tokens that are not in the vocabulary"
            )
        delta = site.shaped("trainable_tokens_delta", (len(indices), columns)).float()
        place = {int(index): row for row, index in enumerate(indices)}
        for row, token in enumerate(tokens.tolist()):
            if token in place:
                rows[row] = delta[place[token]]
    return rows


def dense_edit(site: Site) -> DenseEdit:
    """How an adapter changes a dense layer, by any method.

    Raises:
        AdapterError: a tensor does not fit, or is missing.
    """
    out_features, in_features = dense_shape(site.module)
    edit = DenseEdit()
    for first, make in _DENSE.items():
        if first in site.names:
            edit = make(site, out_features, in_features)
            break
    if "weight" in site:
        weight = site.shaped("weight", stored_shape(site.module))
        edit = replace(edit, weight=weight if isinstance(site.module, nn.Linear) else weight.T)
    if "bias" in site:
        edit = replace(edit, bias=site.shaped("bias", (out_features,)))
    return edit


def _lora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    rank, scale = site.rank_and_scale()
    down = site.shaped("lora_A.weight", (rank, in_features))
    up = site.shaped("lora_B.weight", (out_features, rank))
    bias = magnitude = None
    if "lora_B.bias" in site:
        bias = site.shaped("lora_B.bias", (out_features,)).float() * scale
    if "lora_magnitude_vector" in site:
        magnitude = site.shaped("lora_magnitude_vector", (out_features,))
    return DenseEdit(low_rank=LowRank(down, up, scale), magnitude=magnitude, more_bias=bias)


@dataclass(frozen=True)
class LoraNames:
    """The tensors of LoRA or DoRA at a dense layer, for adapters that have nothing else.

    Attributes:
        module: the layer's name.
        down: the name of A, [rank, in_features].
        up: the name of B, [out_features, rank].
        magnitude: DoRA's, [out_features].
        out_features: of the layer.
        in_features: of the layer.
    """

    module: str
    down: str
    up: str
    magnitude: str | None
    out_features: int
    in_features: int

    @classmethod
    def of(cls, name: str, module: nn.Module, names: Mapping[str, str]) -> "LoraNames | None":
        """The names at one module; None if it is not a dense layer, or there are others."""
        parts = {"lora_A.weight", "lora_B.weight"}
        if not is_dense(module) or names.keys() - {"lora_magnitude_vector"} != parts:
            return None
        down, up = names["lora_A.weight"], names["lora_B.weight"]
        return cls(name, down, up, names.get("lora_magnitude_vector"), *dense_shape(module))


def lora_edits(layers: Sequence[LoraNames], tensors: Tensors, config: Any) -> Edits | None:
    """As `dense_edit` for each layer, in a quarter of the time.

    Hundreds of layers of each adapter are read while a GPU waits for the next batch.

    Returns:
        The edits; None if something does not fit, or has its own rank or alpha: then layers must be
        read one by one.
    """
    if config.rank_pattern or config.alpha_pattern or config.r < 1:
        return None
    rank, scale = Site("", nn.Identity(), {}, tensors, config).rank_and_scale()
    edits = {}
    for layer in layers:
        down, up = tensors[layer.down], tensors[layer.up]
        if down.shape != (rank, layer.in_features) or up.shape != (layer.out_features, rank):
            return None
        magnitude = None
        if layer.magnitude is not None:
            magnitude = tensors[layer.magnitude]
            if magnitude.shape != (layer.out_features,):
                return None
        edits[layer.module] = DenseEdit(LowRank(down, up, scale), None, magnitude)
    return edits


def _ia3(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Liu et al., arXiv 2205.05638: factors of a feed-forward layer's inputs, else of outputs."""
    ahead = site.config.feedforward_modules or ()
    # PEFT, tuners/ia3/model.py: a pattern for the whole name, or ends of names.
    if isinstance(ahead, str):
        of_inputs = re.fullmatch(ahead, site.name) is not None
    else:
        of_inputs = site.name.endswith(tuple(ahead))
    if of_inputs:
        return DenseEdit(in_scale=site.shaped("ia3_l", (1, in_features)).flatten())
    return DenseEdit(out_scale=site.shaped("ia3_l", (out_features, 1)).flatten())


_DENSE: Mapping[str, Callable[[Site, int, int], DenseEdit]] = {
    "lora_A.weight": _lora,
    "ia3_l": _ia3,
    "vera_lambda_b": factored_methods.vera,
    "hada_w1_a": factored_methods.loha,
    "lokr_w1": factored_methods.lokr,
    "lokr_w1_a": factored_methods.lokr,
    "lora_E": factored_methods.adalora,
    "delora_A": factored_methods.delora,
    "gralora_A": factored_methods.gralora,
    "miss_block": factored_methods.miss,
    "hra_u": factored_methods.hra,
    "hira_A": whole_methods.hira,
    "vblora_logits_A": factored_methods.vblora,
    "c3a_kernel": whole_methods.c3a,
    "fourierft_spectrum": whole_methods.fourierft,
    "road_theta": whole_methods.road,
    "oft_R.weight": whole_methods.oft,
    "boft_R": whole_methods.boft,
    "shira_weight": whole_methods.shira,
    "waveft_spectrum": whole_methods.waveft,
    "randlora_lambda": whole_methods.randlora,
}
"""The tensor that identifies a method at a dense layer → how to read it."""
