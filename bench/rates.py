"""How fast this machine multiplies matrices of a model's own shapes: the limit of any engine."""

import os
import platform
import time
from collections import Counter
from collections.abc import Iterable

import torch

_REPETITIONS = 7
_LEAST_SECONDS = 0.02
"""One repetition makes as many products as take so long, so that starting them does not count."""


def matrix_rate(
    shapes: Iterable[tuple[int, int]],
    dtype: torch.dtype,
    device: torch.device | str,
    rows: int,
) -> float:
    """FLOP/s of the dense products of a model, and of nothing else.

    Measured with torch.mm of random numbers at the model's own shapes and in its layers' layout,
    y = x Wᵀ: warm, each shape by itself, the best of several repetitions. A shape weighs as much
    as it takes time in the model. fp32 products run in the precision that is set, so tf32's rate
    is measured inside `products_in("tf32")`.

    Args:
        shapes: (out_features, in_features) of every dense layer, each as often as it is there.
        dtype: of inputs, weights and outputs.
        device: where to run.
        rows: tokens in a product.

    Raises:
        ValueError: there are no shapes.
    """
    counts = Counter(shapes)
    if not counts:
        raise ValueError("there are no shapes to measure")
    device = torch.device(device)
    with torch.inference_mode():
        seconds = {shape: _seconds(shape, dtype, device, rows) for shape in counts}
    numbers = sum(count * shape[0] * shape[1] for shape, count in counts.items())
    return 2.0 * rows * numbers / sum(counts[shape] * seconds[shape] for shape in counts)


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds(shape: tuple[int, int], dtype: torch.dtype, device: torch.device, rows: int) -> float:
    """Seconds that one product takes."""
    x = torch.randn(rows, shape[1], device=device, dtype=dtype)
    weight = torch.randn(shape, device=device, dtype=dtype)
    y = torch.empty(rows, shape[0], device=device, dtype=dtype)

    def several(products: int) -> float:
        synchronize(device)
        started = time.perf_counter()
        for _ in range(products):
            torch.mm(x, weight.T, out=y)
        synchronize(device)
        return time.perf_counter() - started

    several(3)  # libraries load and choose their kernels
    products = max(1, round(_LEAST_SECONDS / max(several(3) / 3, 1e-7)))
    return min(several(products) for _ in range(_REPETITIONS)) / products


def machine() -> str:
    """The machine in words: its processor's kind and how many."""
    return f"{platform.machine()}, {os.cpu_count()} CPUs"
