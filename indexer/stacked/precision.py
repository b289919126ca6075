"""In which arithmetic the matrix products run, and what may be called a signal above its noise."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""Precision → the type of the products' inputs and outputs. What is between them is fp32."""

FASTEST_FIRST = ("fp16", "bf16", "tf32", "fp32")
"""As a GPU runs them. bf16 costs what fp16 costs and rounds eight times as coarsely."""

GOOD_SIGNAL = 60.0
"""From this signal on, a delta's cosine to the one computed in fp32 is at least .999.

Measured by bench/precision.py with real adapters scaled down; see bench/PERFORMANCE.md. Noise of
norm n at right angles to a delta turns it by arctan(n/‖delta‖), and cos = .999 at a ratio of 22.
"""

WORTH_SEEING = 0.05
"""`auto` wants good signals from deltas of this share of the base activation's norm on."""


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Let fp32 products use the tensor cores' tf32 type, or not, while this lasts."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def held(weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A weight on a GPU, in fp16 where that is exact, else as it is stored.

    A bf16 number has fewer bits than fp16 keeps, so it fits unless it over- or underflows.
    """
    stored = weight.to(device)
    half = stored.to(torch.float16)
    return half if torch.equal(half.to(stored.dtype), stored) else stored
