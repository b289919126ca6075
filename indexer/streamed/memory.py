"""Memory for weights that goes back to the system the moment they are let go."""

import math
import mmap
from collections.abc import Sequence
from typing import Final

import torch

_SMALLEST: Final = 256 << 10  # bytes; below it the allocator's own memory does


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """A tensor on the CPU, not filled.

    The allocator of the C library keeps what is freed, and cuts it up: layers that come in one
    thread and go in another would take more and more of it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALLEST:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype).view(shape)
