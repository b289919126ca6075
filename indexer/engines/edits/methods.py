"""The PEFT methods, each read from an adapter's tensors for one module."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import peft
import torch
from peft.utils.other import get_pattern_key
from torch import nn

from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edits, Kronecker, LowRank
from hubdelta.indexer.engines.edits.norms import row_norms
from hubdelta.indexer.engines.edits.structure import dense_shape, is_dense, stored_shape
from hubdelta.schemas.errors import AdapterError, Reason

Tensors = dict[str, torch.Tensor]

VERA_A, VERA_B = "base_model.vera_A", "base_model.vera_B"
"""The projections shared by all layers of a VeRA adapter."""


@dataclass(frozen=True)
class Site:
    """One module with an adapter's tensors for it.

    Attributes:
        name: of the module in the base.
        module: the base's.
        names: part of an edit → name of its tensor.
        tensors: all of the adapter's, by name.
        config: PEFT's configuration object.
    """

    name: str
    module: nn.Module
    names: Mapping[str, str]
    tensors: Tensors
    config: Any

    def __contains__(self, part: str) -> bool:
        return part in self.names

    def __getitem__(self, part: str) -> torch.Tensor:
        """A part of any shape; raises AdapterError if it is missing."""
        if part not in self:
            raise self.misfit(part, ())
        return self.tensors[self.names[part]]

    def shaped(self, part: str, shape: Iterable[int]) -> torch.Tensor:
        """A part, checked for its shape.

        Raises:
            AdapterError: it has another shape, or is missing.
        """
        tensor = self[part]
        if tensor.shape != tuple(shape):
            raise self.misfit(part, shape)
        return tensor

    def misfit(self, part: str, shape: Iterable[int]) -> AdapterError:
        """The error for a part that does not fit."""
        if part not in self:
            name = f"{PREFIX}{self.name}.{part}"
            return AdapterError(Reason.CORRUPT, f"tensor {name} is missing from the weights")
        return AdapterError(
            Reason.BASE_MISMATCH,
            f"tensor {self.names[part]} has shape {list(self[part].shape)}, where {list(shape)} "
            "is expected",
        )

    def rank_and_scale(self) -> tuple[int, float]:
        """Rank and scaling of the module, after rank_pattern, alpha_pattern and rsLoRA."""
        config = self.config
        rank = config.r
        alpha = config.lora_alpha if config.peft_type == peft.PeftType.LORA else config.alpha
        if ranks := config.rank_pattern:
            rank = ranks.get(get_pattern_key(ranks.keys(), self.name), rank)
        if alphas := config.alpha_pattern:
            alpha = alphas.get(get_pattern_key(alphas.keys(), self.name), alpha)
        if rank < 1:
            raise AdapterError(Reason.CORRUPT, f"the rank of {self.name} is {rank}")
        return rank, alpha / (math.sqrt(rank) if getattr(config, "use_rslora", False) else rank)

    def token_indices(self) -> list[int]:
        """The tokens of an embedding that have replaced rows."""
        if self.config.peft_type == peft.PeftType.TRAINABLE_TOKENS:
            return list(self.config.token_indices)
        indices = self.config.trainable_token_indices
        if isinstance(indices, Mapping):
            return list(indices[get_pattern_key(indices.keys(), self.name)])
        return list(indices)


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


def _vera(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Kopiczko et al., arXiv 2310.11454: ΔW = Λb B Λd A, with A and B cut from shared matrices."""
    rank = site.config.r
    inner = site.shaped("vera_lambda_d", (rank,)).float()
    outer = site.shaped("vera_lambda_b", (out_features,)).float()
    shared_down, shared_up = site.tensors[VERA_A], site.tensors[VERA_B]
    for name, given, least in (
        (VERA_A, shared_down.shape, (rank, in_features)),
        (VERA_B, shared_up.shape[::-1], (rank, out_features)),
    ):
        if len(given) != 2 or given[0] != rank or given[1] < least[1]:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has no {least[0]} x {least[1]} for {site.name}",
            )
    down = inner[:, None] * shared_down[:, :in_features].float()
    up = outer[:, None] * shared_up[:out_features].float()
    return DenseEdit(low_rank=LowRank(down, up, 1.0))


def _loha(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Hyeon-Woo et al., arXiv 2108.06098: ΔW = (B₁A₁) ∘ (B₂A₂), of rank r² at most.

    Its factors are the products of each row of A₁ with each of A₂, and of the columns of B.
    """
    rank, scale = site.rank_and_scale()
    up_1, up_2 = (site.shaped(f"hada_w{i}_a", (out_features, rank)).float() for i in (1, 2))
    down_1, down_2 = (site.shaped(f"hada_w{i}_b", (rank, in_features)).float() for i in (1, 2))
    if rank**2 * (in_features + out_features) > in_features * out_features:
        whole = scale * (up_1 @ down_1) * (up_2 @ down_2)
        return DenseEdit(kronecker=Kronecker(torch.ones(1, 1), whole))
    down = (down_1[:, None, :] * down_2[None, :, :]).reshape(rank**2, in_features)
    up = (up_1[:, :, None] * up_2[:, None, :]).reshape(out_features, rank**2)
    return DenseEdit(low_rank=LowRank(down, up, scale))


def _lokr(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Yeh et al., arXiv 2309.14859: ΔW = W₁ ⊗ W₂, each of them full or a low-rank product."""
    rank, scale = site.rank_and_scale()
    factors = []
    for i in (1, 2):
        if f"lokr_w{i}" in site:
            factors.append(site[f"lokr_w{i}"].float())
        else:
            up, down = site[f"lokr_w{i}_a"].float(), site[f"lokr_w{i}_b"].float()
            if (up.dim(), down.dim()) != (2, 2) or (up.shape[1], down.shape[0]) != (rank, rank):
                raise site.misfit(f"lokr_w{i}_a", (up.shape[0], rank))
            factors.append(up @ down)
    left, right = factors
    rows, columns = left.shape[0] * right.shape[0], left.shape[1] * right.shape[1]
    if (rows, columns) != (out_features, in_features):
        part = "lokr_w2" if "lokr_w2" in site else "lokr_w2_a"
        raise site.misfit(part, (out_features // left.shape[0], in_features // left.shape[1]))
    return DenseEdit(kronecker=Kronecker(left * scale, right))


_DENSE: Mapping[str, Callable[[Site, int, int], DenseEdit]] = {
    "lora_A.weight": _lora,
    "ia3_l": _ia3,
    "vera_lambda_b": _vera,
    "hada_w1_a": _loha,
    "lokr_w1": _lokr,
    "lokr_w1_a": _lokr,
}
"""The tensor that identifies a method at a dense layer → how to read it."""
