"""Reading an adapter's tensors from disk, without running anything they bring along."""

import pickle
import struct
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hubdelta.schemas.errors import AdapterError, Reason


def read_tensors(files: list[Path]) -> dict[str, torch.Tensor]:
    """The tensors of safetensors files or of weights-only pickles, in fp32 where they are floats.

    Args:
        files: all files of one adapter.

    Returns:
        Name → tensor, on the CPU.

    Raises:
        AdapterError: corrupt, unsafe_format (a pickle that holds more than tensors), not_finite.
    """
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        read = _read_safetensors if file.suffix == ".safetensors" else _read_pickle
        tensors.update(read(file))
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.float()
            if not torch.isfinite(tensors[name]).all():
                raise AdapterError(Reason.NOT_FINITE, f"tensor {name} holds NaN or infinity")
    return tensors


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, ValueError) as error:
        raise AdapterError(Reason.CORRUPT, f"{file.name} is not readable: {error}") from error


def _read_pickle(file: Path) -> dict[str, torch.Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
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
