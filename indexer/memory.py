"""Memory for weights that goes back to the system the moment they are let go."""

import math
import mmap
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

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


class LargeTensorsApart(TorchFunctionMode):
    """Lets `torch.empty` on the CPU take its memory as `empty` here does.

    Modules are made with weights, even where these are dropped the next moment. The allocator's
    heap would grow by a whole model that nobody touches, with the objects that stay spread over it,
    which fragments the heap for everything computed later.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer one call of a function of torch."""
        kwargs = kwargs or {}
        if func is torch.empty and args and kwargs.keys() <= {"dtype", "device"}:
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            device = torch.device(kwargs.get("device") or torch.get_default_device())
            if device.type == "cpu":
                return empty(args if isinstance(args[0], int) else args[0], dtype)
        return func(*args, **kwargs)
