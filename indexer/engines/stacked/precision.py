"""In which arithmetic the matrix products run, and how near it has to be to fp32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from hubdelta.indexer.engines.edits.structure import is_dense

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
"""Precision → the type of the products' factors. Where it is not fp32, products are of differences
from the base's activations; what is between them is fp32."""

FASTEST_ON_GPU = ("fp16", "bf16", "tf32")
"""The fastest first. bf16 costs what fp16 costs and rounds eight times as coarsely."""

FASTEST_ON_CPU = ("bf16",)
"""That some CPUs multiply faster than fp32."""

CLOSE_ENOUGH = 0.9999
"""The least cosine to fp32, at any strength, that the deltas of `auto` may have."""

WORTH_IT = 1.25
"""How many times as fast as fp32 a precision has to be seen to be, on a CPU."""

LARGE = 10**7
"""Weights in dense layers from which on `auto` tries narrow types on a CPU: the products of smaller
bases take too little of a pass for that."""

_ROUNDOFF = 2.0**-24
"""The relative error of a number rounded to fp32."""


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Within the block, allow or forbid tf32 for fp32 products, and sum half precision in fp32."""
    products = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision()
    halves = (
        products.allow_fp16_reduced_precision_reduction,
        products.allow_bf16_reduced_precision_reduction,
    )
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    products.allow_fp16_reduced_precision_reduction = False
    products.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        products.allow_fp16_reduced_precision_reduction = halves[0]
        products.allow_bf16_reduced_precision_reduction = halves[1]


def held(weight: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A weight on a GPU: in fp16 if that makes no difference to fp32 products, or else as stored.

    A bf16 number has fewer mantissa bits than fp16, so it fits unless it overflows or is below
    2^-17. Every large matrix has a few that small. Their loss is negligible beside the rounding of
    the product, while keeping them would mean casting the matrix for each product. Rounding errors
    of a sum of n terms grow as the square root of n (Higham and Mary, doi 10.1137/18M1226312).
    """
    stored = weight.to(device)
    terms = min(weight.shape, default=1)
    half = stored.to(torch.float16)
    lost = torch.linalg.vector_norm(half.float() - stored.float())
    size = torch.linalg.vector_norm(stored, dtype=torch.float32)
    return half if bool(lost <= _ROUNDOFF * terms**0.5 * size) else stored


def placed_on(device: torch.device, model: nn.Module) -> dict[int, torch.Tensor]:
    """Copies of a model's tensors on another device, by the id of each tensor.

    Dense weights are stored as in `held`, the rest in fp32. So are those that the model's class
    requires in fp32, since its code may cast inputs to their dtype, as T5's does.
    """
    wide = {
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules_strict", None) or ()),
    }
    dense = {
        id(module.weight)
        for name, module in model.named_modules()
        if is_dense(module) and wide.isdisjoint(name.split("."))
    }
    placed: dict[int, torch.Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) in dense:
            there = held(tensor.detach(), device)
        elif tensor.is_floating_point():
            there = tensor.detach().to(device, torch.float32)
        else:
            there = tensor.to(device)
        own = isinstance(tensor, nn.Parameter)
        placed[id(tensor)] = nn.Parameter(there, requires_grad=False) if own else there
    return placed
