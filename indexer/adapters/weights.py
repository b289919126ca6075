"""Reading an adapter's tensors from disk without running any code in them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from hubdelta.crawler.safetensors_header import Layout
from hubdelta.crawler.weight_index import WeightIndex, owners
from hubdelta.indexer.adapters.blocks import DTYPES, Block, StoredNames, read_block, runs_of
from hubdelta.indexer.adapters.local_files import read_header
from hubdelta.indexer.adapters.shards import pickle_shard
from hubdelta.schemas.errors import AdapterError, Reason

_EXPONENT: Final = {
    torch.float32: (torch.int32, 0x7F800000),
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
}
"""Float types that engines accept as stored → integers of their size, and their exponent bits."""

_Read = Callable[[Sequence[str]], dict[str, torch.Tensor]]

_PIECE = 2**20
"""Numbers checked at once."""


def read_tensors(
    files: Sequence[Path],
    wanted: Callable[[str], bool] | None = None,
    index: WeightIndex | None = None,
) -> Mapping[str, torch.Tensor]:
    """The tensors of safetensors or torch.save files, in their stored dtype.

    Floats other than fp32, fp16 and bf16 become fp32. One safetensors file is a block in memory if
    all of its tensors are wanted. Otherwise tensors are views of the mapped file, which must not
    change while they exist; once it is deleted, its disk space is freed with them.

    Args:
        files: all files of one adapter.
        wanted: whether to read a tensor of this name; all by default.
        index: the index file that names them, in this order.

    Returns:
        Name → tensor, on the CPU, the floats finite.

    Raises:
        AdapterError: corrupt, unsafe_format (a pickle that holds more than tensors), not_finite.
    """
    names = index.files if index else [file.name for file in files]
    if (block := _block(files, wanted)) is not None:
        return block
    readers = {name: _reader(file) for name, file in zip(names, files, strict=True)}
    file_of = owners({name: held for name, (held, _) in readers.items()}, index)
    tensors: dict[str, torch.Tensor] = {}
    for name, (held, read) in readers.items():
        own = (key for key in held if file_of[key] == name)
        tensors |= read([key for key in own if wanted is None or wanted(key)])
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor if tensor.dtype in _EXPONENT else tensor.float()
            if not _is_finite_by_one_core(tensors[name]):
                raise _not_finite(name)
    return tensors


def _not_finite(name: str) -> AdapterError:
    return AdapterError(Reason.NOT_FINITE, f"tensor {name} holds NaN or infinity")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether it holds neither NaN, which minimum and maximum would propagate, nor infinity.

    One pass without a copy: `isfinite` makes several and takes twenty times as long.
    """
    return not tensor.numel() or all(extreme.isfinite() for extreme in tensor.aminmax())


def _is_finite_by_one_core(tensor: torch.Tensor) -> bool:
    """The same for a tensor on the CPU of a kept type: no number has all exponent bits set.

    Torch divides all but the smallest tensors among all cores. If several adapters are read at once
    during passes, its threads wait for each other ten times as long as they compute.
    """
    integers, exponent = _EXPONENT[tensor.dtype]
    bits = tensor.detach().view(integers).numpy().reshape(-1)
    return all(
        int((bits[start : start + _PIECE] & exponent).max()) != exponent
        for start in range(0, bits.size, _PIECE)
    )


def _block(files: Sequence[Path], wanted: Callable[[str], bool] | None) -> Block | None:
    """The only file as a block of finite numbers; None where tensors are read one by one."""
    if len(files) != 1 or files[0].suffix != ".safetensors":
        return None
    header = read_header(files[0])
    names, runs = header.layout.tensors.keys(), runs_of(header.layout)
    if runs is None or not (wanted is None or all(map(wanted, names))):
        return None
    block = Block(header.layout, read_block(files[0], header), _own_names(header.layout))
    for run in runs:
        if not _is_finite_by_one_core(block.data[run.start : run.end].view(DTYPES[run.dtype])):
            raise _not_finite(next(name for name in names if not is_finite(block[name])))
    return block


@lru_cache(maxsize=100)
def _own_names(layout: Layout) -> StoredNames:
    return StoredNames(zip(layout.tensors, layout.tensors, strict=True))


def _reader(file: Path) -> tuple[Collection[str], _Read]:
    """The names of a file's tensors, and a function that reads some of them."""
    if file.suffix == ".safetensors":
        return read_header(file).tensors, partial(_read_safetensors, file)
    shard = pickle_shard(file)
    return shard.tensors, shard.read


def _read_safetensors(file: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    try:
        with safe_open(file, "pt") as content:
            return {name: content.get_tensor(name) for name in names}
    except (SafetensorError, ValueError) as error:
        raise AdapterError(Reason.CORRUPT, f"{file.name} is not readable: {error}") from error
