"""The norm of each row of W + ΔW, which DoRA divides by, without forming the sum."""

import torch


def row_norms(weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """‖W + up·down‖ of each row (arXiv 2402.09353, equation 5) for a batch of low-rank products.

    ‖Wᵢ + uᵢD‖² = ‖Wᵢ‖² + 2 uᵢ·(D Wᵢᵀ) + uᵢ (D Dᵀ) uᵢᵀ, so W is read once for the whole batch.

    Args:
        weight: W, [out_features, in_features], in the type of the products.
        down: D, [adapters, rank, in_features].
        up: [adapters, out_features, rank].

    Returns:
        [adapters, out_features], fp32.
    """
    own: torch.Tensor = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float32).square()
    cross = (down.flatten(0, 1) @ weight.T).view(*down.shape[:2], -1)
    gram = down.float() @ down.float().mT
    up = up.float()
    change = (up * (2 * cross.mT.float() + up @ gram)).sum(dim=-1)
    squared: torch.Tensor = own + change
    return squared.clamp_min(0).sqrt()
