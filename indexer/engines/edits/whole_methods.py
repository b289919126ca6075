"""PEFT methods that change the whole matrix of a dense layer, of which each adapter has its own.

The formulas are those of PEFT's layers at inference, where dropout does nothing.
"""

import math
from functools import lru_cache

import torch
from peft.tuners.waveft.constants import WAVELET_REDUCTIONS
from peft.tuners.waveft.waverec2d import waverec2d

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
        rotation = _cayley(skew)
    return DenseEdit(weight=_rotated(site.own_weight(), rotation))


def boft(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Liu et al., arXiv 2311.06243: as OFT, W Rᵀ, whose rows are then scaled.

    PEFT uses one butterfly factor, whatever the config says, unless it can build an extension for a
    GPU; with one, nothing is permuted.
    """
    config = site.config
    size = config.boft_block_size or in_features // config.boft_block_num
    held = site.shaped("boft_R", (1, in_features // size, size, size)).float()[0]
    scale = site.shaped("boft_s", (out_features, 1)).float()
    skew = 0.5 * (held - held.transpose(1, 2))
    return DenseEdit(weight=scale * _rotated(site.own_weight(), _cayley(skew)))


def shira(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Bhardwaj et al., arXiv 2406.13175: ΔW is sparse, and its file says where it is not zero."""
    count = site.config.r * (out_features + in_features)
    values = site.shaped("shira_weight", (count,)).float()
    rows, columns = site.shaped("shira_indices", (2, count)).long()
    within = (rows >= 0) & (rows < out_features) & (columns >= 0) & (columns < in_features)
    if not within.all():
        name = site.names["shira_indices"]
        raise AdapterError(Reason.CORRUPT, f"tensor {name} points outside the layer's weight")
    delta = torch.zeros(out_features, in_features)
    return _whole(delta.index_put_((rows, columns), values, accumulate=True))


def waveft(site: Site, out_features: int, in_features: int) -> DenseEdit:
    """Bilican et al., arXiv 2505.12532: ΔW is the inverse wavelet transform of a few values.

    Where they stand follows from a seed, in a matrix that is padded by what the transform cuts off.
    """
    config = site.config
    values = site.shaped("waveft_spectrum", (config.n_frequency,)).float()
    chosen = _frequencies(out_features * in_features, len(values), config.random_loc_seed)
    rows, columns = chosen // in_features, chosen % in_features
    if not config.use_idwt:
        delta = torch.zeros(out_features, in_features)
        delta[rows, columns] = values
        return _whole(delta * config.scaling)
    cut = WAVELET_REDUCTIONS[config.wavelet_family]
    height, width = (
        size + lost + (size + lost) % 2
        for size, lost in zip((out_features, in_features), cut, strict=True)
    )
    spectrum = torch.zeros(height, width)
    spectrum[rows + (height - out_features) // 2, columns + (width - in_features) // 2] = values
    (top_left, top_right), (bottom_left, bottom_right) = (
        half.chunk(2, dim=1) for half in spectrum.chunk(2)
    )
    bands = top_left, (top_right, bottom_left, bottom_right)
    delta = waverec2d(bands, config.wavelet_family) * config.scaling
    top, left = (delta.shape[0] - out_features) // 2, (delta.shape[1] - in_features) // 2
    return _whole(delta[top : top + out_features, left : left + in_features])


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


def _cayley(skew: torch.Tensor) -> torch.Tensor:
    """(I - Q)(I + Q)⁻¹ of each block Q, [blocks, size, size]."""
    eye = torch.eye(skew.shape[-1]).expand_as(skew)
    rotation: torch.Tensor = torch.linalg.solve(eye + skew, eye - skew, left=False)
    return rotation


def _rotated(weight: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """W Rᵀ of blocks on R's diagonal, [blocks, size, size], or one for all of them."""
    size = rotation.shape[-1]
    parts = weight.reshape(len(weight), -1, size)
    turned = torch.einsum("obc,bkc->obk", parts, rotation.expand(parts.shape[1], -1, -1))
    return turned.reshape(weight.shape)


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
    """Places of a few values among many, int64 [count]; layers of one shape share them."""
    shuffled = torch.randperm(numbers, generator=torch.Generator().manual_seed(seed))
    return shuffled[:count].clone()
