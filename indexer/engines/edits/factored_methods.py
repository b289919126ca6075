"""PEFT methods whose change of a dense layer is kept in factors: a low-rank or Kronecker product.

The formulas are those of PEFT's layers at inference, where dropout does nothing.
"""

import torch

from hubdelta.indexer.engines.edits.edits import DenseEdit, Kronecker, LowRank
from hubdelta.indexer.engines.edits.site import VBLORA_BANK, VERA_A, VERA_B, Site
from hubdelta.schemas.errors import AdapterError, Reason

_LEAST_NORM = 1e-4
"""PEFT, tuners/delora/layer.py: norms of DeLoRA's factors are taken to be no smaller."""


def vera(site: Site, out_features: int, in_features: int) -> DenseEdit:
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


def loha(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Hyeon-Woo et al., arXiv 2108.06098: ΔW = (B₁A₁) ∘ (B₂A₂), of rank r² at most.

    Its factors are the products of each row of A₁ with each of A₂, and of the columns of B.
    """
    rank, scale = site.rank_and_scale()
    up_1, up_2 = (site.shaped(f"hada_w{i}_a", (out_features, rank)).float() for i in (1, 2))
    down_1, down_2 = (site.shaped(f"hada_w{i}_b", (rank, in_features)).float() for i in (1, 2))
    if loha_numbers(rank, out_features, in_features) == in_features * out_features:
        return DenseEdit(kronecker=Kronecker.whole(scale * (up_1 @ down_1) * (up_2 @ down_2)))
    down = (down_1[:, None, :] * down_2[None, :, :]).reshape(rank**2, in_features)
    up = (up_1[:, :, None] * up_2[:, None, :]).reshape(out_features, rank**2)
    return DenseEdit(low_rank=LowRank(down, up, scale))


def loha_numbers(rank: int, out_features: int, in_features: int) -> int:
    """How many numbers LoHa's ΔW takes: as factors of rank r², or whole where that is less."""
    return min(rank**2 * (in_features + out_features), in_features * out_features)


def lokr(site: Site, out_features: int, in_features: int) -> DenseEdit:
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


def adalora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Zhang et al., arXiv 2303.10512: ΔW = alpha / r · B diag(E) A, a singular value decomposition.

    PEFT divides by r + 1e-5, where r is the rank before training pruned it.
    """
    rank = site.config.init_r
    down = site.shaped("lora_A", (rank, in_features)).float()
    values = site.shaped("lora_E", (rank, 1)).float()
    up = site.shaped("lora_B", (out_features, rank))
    alpha = site.config.lora_alpha if site.config.lora_alpha > 0 else rank
    return DenseEdit(low_rank=LowRank(down * values, up, alpha / (rank + 1e-5)))


def delora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Bini et al., arXiv 2503.18225: ΔW = λ / r · B diag(1 / ‖aᵢ‖‖bᵢ‖) A diag(‖W‖ by columns)."""
    rank = site.rank()
    down = site.shaped("delora_A", (rank, in_features)).float()
    up = site.shaped("delora_B", (out_features, rank)).float()
    bound = site.shaped("delora_lambda", (1,)).float()
    norms = site.shaped("delora_w_norm", (in_features,)).float()
    lengths = down.norm(dim=1).clamp(min=_LEAST_NORM) * up.norm(dim=0).clamp(min=_LEAST_NORM)
    return DenseEdit(low_rank=LowRank(down * norms * (bound / rank / lengths)[:, None], up, 1.0))


def gralora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Jung et al., arXiv 2505.20355: ΔW of k by k blocks, each of rank r / k, and LoRA beside it.

    As one low-rank product: of each block of inputs r inner values are made, of which each block of
    outputs sees its share of r / k.
    """
    config = site.config
    blocks, rank, hybrid = config.gralora_k, config.r, config.hybrid_r
    share = rank // blocks
    inner = site.shaped("gralora_A", (blocks, in_features // blocks, rank)).float()
    outer = site.shaped("gralora_B", (blocks, rank, out_features // blocks)).float()
    # [in block, its inputs, out block, share] → [out block, in block, share, inputs]
    parts = inner.reshape(blocks, -1, blocks, share).permute(2, 0, 3, 1)
    down = torch.zeros(blocks, blocks, share, blocks, in_features // blocks)
    up = torch.zeros(blocks, out_features // blocks, blocks, rank)
    for block in range(blocks):
        down[:, block, :, block] = parts[:, block]
        up[block, :, block] = outer[block].T
    down = down.reshape(blocks * rank, in_features)
    up = up.reshape(out_features, blocks * rank)
    if hybrid:
        general = site.shaped("gralora_A_general.weight", (hybrid, in_features)).float()
        down = torch.cat([down, general])
        up = torch.cat(
            [up, site.shaped("gralora_B_general.weight", (out_features, hybrid)).float()], dim=1
        )
    return DenseEdit(low_rank=LowRank(down, up, config.alpha / (rank + hybrid)))


def miss(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Kang and Yin, arXiv 2409.15371: inputs r apart are summed; each sum has a row of the block.

    With `mini`, the rows are repeated along the outputs.
    """
    rank = site.config.r
    columns = site.config.mini_r if site.config.init_weights == "mini" else out_features
    block = site.shaped("miss_block", (rank, columns)).float()
    down = torch.eye(rank).repeat(1, -(-in_features // rank))[:, :in_features]
    return DenseEdit(low_rank=LowRank(down, block.repeat(1, out_features // columns).T, 1.0))


def hra(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Yuan et al., arXiv 2405.17484: W times Householder reflections H₁ H₂ …, H = I - 2uuᵀ.

    Their product is I - Y Uᵀ, so ΔW = -W Y Uᵀ; with Gram-Schmidt, the reflections commute, and
    Y = 2U.
    """
    rank = site.config.r
    vectors = site.shaped("hra_u", (in_features, rank)).float()
    unit = torch.empty_like(vectors)
    made = torch.empty_like(vectors)
    for place in range(rank):
        one = vectors[:, place]
        if site.config.apply_GS:
            for earlier in range(place):
                one = one - (unit[:, earlier] @ one) * unit[:, earlier]
        unit[:, place] = one = one / one.norm()
        # What all reflections before it make of it.
        made[:, place] = 2 * (one - made[:, :place] @ (unit[:, :place].T @ one))
    return DenseEdit(low_rank=LowRank(unit.T.contiguous(), site.own_weight() @ made, -1.0))


def vblora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Li et al., arXiv 2405.15179: A and B of vectors of a bank, by the top k logits."""
    config = site.config
    bank = site.tensors[VBLORA_BANK].float()
    if bank.shape != (config.num_vectors, config.vector_length):
        raise AdapterError(
            Reason.BASE_MISMATCH, f"tensor {VBLORA_BANK} has shape {list(bank.shape)}"
        )

    def mixed(part: str, rows: int, columns: int) -> torch.Tensor:
        logits = site.shaped(part, (rows, columns, config.num_vectors)).float()
        strongest, which = logits.topk(config.topk, dim=-1)
        return (strongest.softmax(dim=-1)[..., None] * bank[which]).sum(dim=-2)

    length, rank = config.vector_length, config.r
    down = mixed("vblora_logits_A", rank, in_features // length).reshape(rank, in_features)
    up = mixed("vblora_logits_B", out_features // length, rank)
    up = up.transpose(1, 2).reshape(out_features, rank)
    return DenseEdit(low_rank=LowRank(down, up, 1.0))
