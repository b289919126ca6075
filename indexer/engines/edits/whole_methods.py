"""PEFT methods that change the whole matrix of a dense layer, of which each adapter has its own.

The formulas are those of PEFT's layers at inference, where dropout does nothing.
"""

import math
from functools import lru_cache

import torch

from hubdelta.indexer.engines.edits.edits import DenseEdit, Kronecker
from hubdelta.indexer.engines.edits.site import RANDLORA_A, RANDLORA_B, Site
from hubdelta.schemas.errors import AdapterError, Reason


def hira(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Huang et al., ICLR 2025 (HiRA): ΔW = W ∘ (B A)."""
    rank = site.config.r
    down = site.shaped("hira_A", (rank, in_features)).float()
    up = site.shaped("hira_B", (out_features, rank)).float()
    return _whole(site.own_weight() * (up @ down))


def c3a(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Chen et al., arXiv 2407.19342: ΔW of circulant blocks, divided by the number of inputs."""
    size = site.config.block_size
    kernel = site.shaped("c3a_kernel", (out_features // size, in_features // size, size)).float()
    steps = torch.arange(size)
    circulant = kernel[:, :, (steps[None, :] - steps[:, None]) % size]  # [.., .., row, column]
    return _whole(circulant.permute(0, 2, 1, 3).reshape(out_features, in_features) / in_features)


def fourierft(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Gao et al., arXiv 2405.03003: ΔW is the real part of the inverse transform of a few values.

    Where in the spectrum they stand follows from a seed.
    """
    values = site.shaped("fourierft_spectrum", (site.config.n_frequency,)).float()
    spectrum = torch.zeros(out_features * in_features)
    spectrum[_frequencies(spectrum.numel(), len(values), site.config.random_loc_seed)] = values
    delta = torch.fft.ifft2(spectrum.view(out_features, in_features)).real
    return _whole(delta * site.config.scaling)


def randlora(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Albert et al., arXiv 2502.00987: ΔW = alpha / r · B A, of random bases that are scaled.

    Together the bases have full rank. The shared ones are cut to the layer's shape.
    """
    rank, least = site.config.r, min(out_features, in_features)
    most, count = max(out_features, in_features), -(-least // rank)
    scales = site.shaped("randlora_lambda", (rank, count)).float()
    factors = site.shaped("randlora_gamma", (count, least)).float()
    for name, part in ((RANDLORA_A, "randlora_A"), (RANDLORA_B, "randlora_B")):
        # Each layer's file has copies, of which PEFT loads one for all.
        if part in site and not torch.equal(site[part], site.tensors[name]):
            raise AdapterError(
                Reason.CORRUPT, f"tensor {site.names[part]} is not the same as {name}"
            )
    small, large = site.tensors[RANDLORA_A].float(), site.tensors[RANDLORA_B].float()
    small, large = small[..., :least], large[:most, :count]
    if small.shape != (rank, 1, least) or large.shape != (most, count, rank):
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"tensor {RANDLORA_A} or {RANDLORA_B} is too small for {site.name}",
        )
    inner = (scales[:, :, None] * small * factors).flatten(end_dim=1)
    outer = large.flatten(start_dim=1)
    delta = outer @ inner if least == in_features else inner.T @ outer.T
    return _whole(delta * (site.config.randlora_alpha / rank))


def oft(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Qiu et al., arXiv 2306.07280: blocks of the inputs are rotated, x R, before W.

    R = (I - Q)(I + Q)⁻¹ of a skew-symmetric Q (Cayley), or the start of its Neumann series, which
    PEFT ends with half of a term: I + 2Q + … + 2Qⁿ⁻¹ + Qⁿ, where Q stands for what its file holds.
    """
    held = site["oft_R.weight"].float()
    blocks = 1 if site.config.block_share else held.shape[0]
    size = _size_of_skew(held.shape[-1])
    held = site.shaped("oft_R.weight", (blocks, size * (size - 1) // 2)).float()
    wanted = _block_size(site, in_features) or size
    if size != wanted or in_features % size or blocks not in {1, in_features // size}:
        count = 1 if site.config.block_share else in_features // wanted
        raise site.misfit("oft_R.weight", (count, wanted * (wanted - 1) // 2))
    skew = torch.zeros(blocks, size, size)
    rows, columns = torch.triu_indices(size, size, 1)
    skew[:, rows, columns] = held
    skew = skew - skew.transpose(1, 2)
    eye = torch.eye(size).expand(blocks, size, size)
    if site.config.use_cayley_neumann:
        terms = site.config.num_cayley_neumann_terms
        highest = max(3, terms - 1) if terms > 2 else terms - 1
        rotation, power = eye.clone(), eye
        for exponent in range(1, highest + 1):
            power = power @ skew
            rotation = rotation + (1.0 if exponent == highest and terms > 2 else 2.0) * power
    else:
        rotation = torch.linalg.solve(eye + skew, eye - skew, left=False)
    weight = site.own_weight().reshape(out_features, in_features // size, size)
    rotated = torch.einsum("obc,bkc->obk", weight, rotation.expand(weight.shape[1], -1, -1))
    return DenseEdit(weight=rotated.reshape(out_features, in_features))


def road(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Liao and Monz, arXiv 2409.00119: pairs of outputs, half a group apart, rotated and scaled.

    Equation 4; the variants differ in how many outputs share an angle and a scale.
    """
    variant, group = site.config.variant, site.config.group_size
    count = {"road_1": out_features // 2, "road_2": out_features, "road_4": 2 * out_features}

    def columns(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        held = site.shaped(part, (count[variant],)).float()
        if variant == "road_4":
            first, second = held.reshape(-1, 2, group).unbind(1)
            return first.flatten(), second.flatten()
        if variant == "road_1":
            held = held.reshape(-1, group // 2).repeat_interleave(2, dim=0).flatten()
        return held, held

    (angle, other_angle), (scale, other_scale) = columns("road_theta"), columns("road_alpha")
    along, across = scale * angle.cos(), other_scale * other_angle.sin()

    def turned(outputs: torch.Tensor) -> torch.Tensor:
        pairs = outputs.reshape(-1, 2, group // 2, outputs.shape[-1])
        other = torch.stack([-pairs[:, 1], pairs[:, 0]], dim=1).reshape(outputs.shape)
        return along[:, None] * outputs + across[:, None] * other

    bias = getattr(site.module, "bias", None)
    if bias is not None:
        bias = turned(bias.detach().cpu().float()[:, None])[:, 0]
    return DenseEdit(weight=turned(site.own_weight()), bias=bias)


def _whole(delta: torch.Tensor) -> DenseEdit:
    return DenseEdit(kronecker=Kronecker.whole(delta))


def _block_size(site: Site, in_features: int) -> int | None:
    """The rows of OFT's blocks, as configured; None where PEFT chooses a size that fits instead."""
    if size := site.config.oft_block_size:
        return size if in_features % size == 0 else None
    return in_features // site.config.r if in_features % site.config.r == 0 else None


def _size_of_skew(numbers: int) -> int:
    """The rows of a skew-symmetric matrix that has so many numbers above its diagonal."""
    return (1 + math.isqrt(1 + 8 * numbers)) // 2


@lru_cache(maxsize=16)
def _frequencies(numbers: int, count: int, seed: int) -> torch.Tensor:
    """Places of FourierFT's values, int64 [count]; layers of one shape share them."""
    shuffled = torch.randperm(numbers, generator=torch.Generator().manual_seed(seed))
    return shuffled[:count].clone()
