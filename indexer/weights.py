"""Reading an adapter's tensors from disk, without running anything they bring along."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from hubdelta.schemas.errors import AdapterError, Reason

_EXPONENT: Final = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
}
"""Float types that engines take as they are stored → integers of their size, and their exponent."""

_PIECE = 2**20
"""Numbers that are looked at together."""


def read_tensors(
    files: list[Path], wanted: Callable[[str], bool] | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of safetensors files or of weights-only pickles, in their stored dtype.

    Floats other than fp32, fp16 and bf16 become fp32. Tensors of safetensors files are views of
    the mapped file: once it is deleted, its disk space is free when they are.

    Args:
        files: all files of one adapter.
        wanted: whether a tensor of this name is to be read; by default all are.

    Returns:
        Name → tensor, on the CPU, the floats finite.

    Raises:
        AdapterError: corrupt, unsafe_format (a pickle that holds more than tensors), not_finite.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        read = _read_safetensors if file.suffix == ".safetensors" else _read_pickle
        tensors.update(read(file, wanted or _every))
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor if tensor.dtype in _EXPONENT else tensor.float()
            if not _is_finite_by_one_core(tensors[name]):
                raise AdapterError(Reason.NOT_FINITE, f"tensor {name} holds NaN or infinity")
    return tensors


def _every(name: str) -> bool:
    return True


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether it holds neither NaN, which both extremes would be, nor infinity.

    One pass without a copy: `isfinite` makes several, and takes twenty times as long.
    """
    return not tensor.numel() or all(extreme.isfinite() for extreme in tensor.aminmax())


def _is_finite_by_one_core(tensor: torch.Tensor) -> bool:
    """The same of a tensor on the CPU whose type is kept: none has all bits of the exponent.

    Torch divides all but the smallest tensors among all cores. With several adapters read at once,
    beside passes, its threads then wait for each other ten times as long as they compute.
    """
    integers, exponent = _EXPONENT[tensor.dtype]
    bits = tensor.detach().view(integers).numpy().reshape(-1)
    return all(
        int((bits[start : start + _PIECE] & exponent).max()) != exponent
        for start in range(0, bits.size, _PIECE)
    )


def _read_safetensors(file: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, "pt") as content:
            return {name: content.get_tensor(name) for name in filter(wanted, content.keys())}
    except (SafetensorError, ValueError) as error:
        raise AdapterError(Reason.CORRUPT, f"{file.name} is not readable: {error}") from error


def _read_pickle(file: Path, wanted: Callable[[str], bool]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_pickle(file).items() if wanted(name)}


def load_pickle(file: Path, *, mapped: bool = False) -> dict[str, torch.Tensor]:
    """All tensors of a pickle, on the CPU.

    Args:
        file: as torch.save writes it.
        mapped: leave the tensors in the file, which must be one that torch 1.6 or newer wrote.

    Raises:
        AdapterError: corrupt, or unsafe_format (it holds more than tensors).
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise AdapterError(
            Reason.UNSAFE_FORMAT,
            f"{file.name} is a pickle that holds more than tensors and was not loaded: "
            "ask its author for safetensors",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, struct.error) as error:
        what = str(error).partition("\n")[0] or type(error).__name__
        raise AdapterError(Reason.CORRUPT, f"{file.name} is not readable: {what}") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in content.items()
    ):
        raise AdapterError(Reason.UNSAFE_FORMAT, f"{file.name} holds other things than tensors")
    return content
