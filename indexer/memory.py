"""Memory for weights that returns to the system as soon as they are released."""

import math
import mmap
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

_SMALLEST: Final = 256 << 10  # bytes; below it the allocator's own memory is fine


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialized tensor on the CPU.

    The C library's allocator keeps and fragments freed memory: layers allocated in one thread and
    freed in another would take more and more of it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _SMALLEST:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype).view(shape)


class LargeTensorsApart(TorchFunctionMode):
    """Makes `torch.empty` on the CPU allocate memory as `empty` here does.

    Modules are created with weights, even if these are dropped right away. The allocator's heap
    would grow by a whole unused model, with the remaining objects spread over it, which fragments
    the heap for everything computed later.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Handle one call of a torch function."""
        kwargs = kwargs or {}
        if func is torch.empty and args and kwargs.keys() <= {"dtype", "device"}:
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            device = torch.device(kwargs.get("device") or torch.get_default_device())
            if device.type == "cpu":
                return empty(args if isinstance(args[0], int) else args[0], dtype)
        return func(*args, **kwargs)
