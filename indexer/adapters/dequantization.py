"""Dequantizing whole models' weights if their format is stated and simple.

Supported are 8-bit numbers with a scale per tensor, row or block, and the 4-bit blocks of gpt-oss:
their product is exact in fp32. Any other format is rejected by name. How activations are rounded
when such a model is served is not part of its weights.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.indexer.adapters.quantization import Statement, described, quantized, stated
from hubdelta.indexer.adapters.shards import Stored
from hubdelta.schemas.errors import AdapterError, Reason

_FP8: Final = frozenset(
    {
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    }
)

_SCALES: Final = ("_scale_inv", "_scale")
"""Suffixes of the name of a tensor's scale; the tensor is multiplied by it under either name."""

_ZERO_POINT: Final = "_zero_point"

_BESIDE_WEIGHTS: Final = re.compile(
    r"(^|[._])(input_scale|output_scale|activation_scale|input_zero_point|output_zero_point"
    r"|[qkv]_scale|kv_scale|[qkv]_zero_point)$"
)
"""Scales of activations and of a key-value cache."""


def plain(checkpoint: Checkpoint, config: Mapping[str, Any]) -> "Checkpoint | Dequantized":
    """A checkpoint whose tensors are the weights used in computation.

    Raises:
        AdapterError: unsupported_adapter, a format that is not simple; corrupt, scales that do not
            fit.
    """
    statement = stated(config)
    return Dequantized(checkpoint, statement) if statement else checkpoint


@dataclass(frozen=True)
class _Parts:
    """What a weight is made of.

    Attributes:
        names: of the tensors: the numbers, then their scale, perhaps their zero point.
        shape: of the weight.
        make: computes the weight in fp32 from them.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    make: Callable[..., torch.Tensor]


class Dequantized:
    """The plain weights, in fp32, of a quantized checkpoint; thread-safe.

    Args:
        checkpoint: the stored one.
        statement: its format.

    Raises:
        AdapterError: unsupported_adapter, the format is not simple; corrupt, scales do not fit.

    Attributes:
        tensors: all weights by name, without tensors that only quantization needs.
    """

    def __init__(self, checkpoint: Checkpoint, statement: Statement) -> None:
        find = _SIMPLE.get(statement["quant_method"])
        try:
            parts = find(checkpoint.tensors, statement) if find else None
        except (TypeError, ValueError, AttributeError) as error:
            raise quantized(f"{described(statement)}, stated in an unknown way") from error
        if parts is None:
            raise quantized(described(statement))
        self._checkpoint, self._parts = checkpoint, parts
        used = {name for part in parts.values() for name in part.names}
        kept = {
            name: stored
            for name, stored in checkpoint.tensors.items()
            if name not in used and not _BESIDE_WEIGHTS.search(name)
        }
        made = {name: Stored(torch.float32, part.shape) for name, part in parts.items()}
        self.tensors: dict[str, Stored] = kept | made

    def read(self, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """Some tensors, each in its own memory on the CPU.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        stored = [own for name in names for own in self._stored(name)]
        read = self._checkpoint.read(list(dict.fromkeys(stored)))
        return {
            name: part.make(*(read.pop(own) for own in part.names))
            if (part := self._parts.get(name))
            else read[name]
            for name in names
        }

    def read_rows(self, name: str, rows: Sequence[int]) -> torch.Tensor:
        """Some rows of a matrix, [rows, …] in the order given.

        Raises:
            AdapterError: they cannot be read, and why.
            HubError: offline, or a refused token.
        """
        if name in self._parts:
            return self.read([name])[name][list(rows)]
        return self._checkpoint.read_rows(name, rows)

    def _stored(self, name: str) -> tuple[str, ...]:
        part = self._parts.get(name)
        return part.names if part else (name,)


def _scaled_parts(
    tensors: Mapping[str, Stored], numbers: Collection[torch.dtype], block: Sequence[int] | None
) -> dict[str, _Parts]:
    """The weights stored as 8-bit numbers with a scale."""
    parts = {}
    for name, stored in tensors.items():
        if name.endswith(_ZERO_POINT) or stored.dtype not in {*_FP8, torch.int8}:
            continue
        scale = next((name + end for end in _SCALES if name + end in tensors), None)
        if stored.dtype not in numbers or scale is None:
            raise quantized(f"tensor {name} is {_short(stored.dtype)} and has no scale")
        names = (name, scale, *filter(tensors.__contains__, [name + _ZERO_POINT]))
        lengths = [
            _block_lengths(own, tensors[own].shape, stored.shape, block) for own in names[1:]
        ]
        parts[name] = _Parts(names, stored.shape, _Multiply(lengths))
    return parts


@dataclass(frozen=True)
class _Multiply:
    """(numbers - zero point) · scale, each spread over the blocks that share it.

    Attributes:
        lengths: of a block along each axis of the weight, for the scale and the zero point.
    """

    lengths: Sequence[tuple[int, ...]]

    def __call__(
        self, numbers: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
    ) -> torch.Tensor:
        weight = numbers.float()
        if zero_point is not None:
            weight -= _spread(zero_point.float(), weight.shape, self.lengths[1])
        # A scale stored as bytes is only an exponent (E8M0).
        factor = scale.float() if scale.dtype is not torch.uint8 else (scale.float() - 127).exp2()
        weight *= _spread(factor, weight.shape, self.lengths[0])
        return weight


def _block_lengths(
    name: str, scales: tuple[int, ...], shape: tuple[int, ...], block: Sequence[int] | None
) -> tuple[int, ...]:
    """How many numbers share a scale along each axis.

    Scales with fewer axes than the weight apply to its first axes, such as rows.

    Raises:
        AdapterError: corrupt, the number of scales does not match.
    """
    if all(size == 1 for size in scales):
        return shape
    scales += (1,) * (len(shape) - len(scales))
    sizes = [None] * (len(shape) - len(block or ())) + list(block or ())
    lengths = []
    for count, length, size in zip(scales, shape, sizes, strict=True):
        if count == 1:
            lengths.append(length)
        elif size and count == -(-length // size):
            lengths.append(size)
        elif count and length % count == 0:
            lengths.append(length // count)
    if len(lengths) != len(shape) or len(scales) != len(shape):
        raise AdapterError(
            Reason.CORRUPT, f"tensor {name} has shape {list(scales)} for a weight of {list(shape)}"
        )
    return tuple(lengths)


def _spread(scales: torch.Tensor, shape: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    """Scales repeated for all numbers of their blocks, or in a shape that broadcasts."""
    spread = scales.reshape(scales.shape if scales.numel() > 1 else (1,) * len(shape))
    spread = spread.reshape(*spread.shape, *(1,) * (len(shape) - spread.dim()))
    for axis, (size, length) in enumerate(zip(shape, lengths, strict=True)):
        if spread.shape[axis] > 1 and length > 1:
            spread = spread.repeat_interleave(length, axis).narrow(axis, 0, size)
    return spread


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _fp8(tensors: Mapping[str, Stored], statement: Statement) -> dict[str, _Parts]:
    """DeepSeek's, with square blocks or none: transformers.integrations.finegrained_fp8."""
    return _scaled_parts(tensors, _FP8, statement.get("weight_block_size"))


def _modelopt(tensors: Mapping[str, Stored], statement: Statement) -> dict[str, _Parts] | None:
    """NVIDIA's: https://nvidia.github.io/Model-Optimizer/deployment/3_unified_hf.html."""
    if statement.get("quant_algo") not in {"FP8", "FP8_PER_CHANNEL_PER_TOKEN"}:
        return None
    return _scaled_parts(tensors, _FP8, None)


def _compressed_tensors(
    tensors: Mapping[str, Stored], statement: Statement
) -> dict[str, _Parts] | None:
    """Its formats that pack nothing: https://github.com/vllm-project/compressed-tensors."""
    formats = {"float-quantized", "int-quantized", "naive-quantized"}
    groups = statement.get("config_groups") or {}
    weights = [group.get("weights") for group in groups.values()]
    if (
        not weights
        or statement.get("transform_config")
        or (statement.get("sparsity_config") or {}).get("format", "dense") != "dense"
        or {statement.get("format"), *(group.get("format") for group in groups.values())}
        - {None, *formats}
        or any(not own or own.get("num_bits") != 8 or own.get("actorder") for own in weights)
    ):
        return None
    blocks = [own.get("block_structure") for own in weights]
    block = blocks[0]
    if any(other != block for other in blocks):
        return None
    if isinstance(block, str):
        block = [int(size) for size in block.split("x")]
    return _scaled_parts(tensors, {*_FP8, torch.int8}, block)


def _mxfp4(tensors: Mapping[str, Stored], statement: Statement) -> dict[str, _Parts]:
    """Gpt-oss's experts: blocks of 32 four-bit floats in 16 bytes, each with an exponent."""
    parts = {}
    for blocks, stored in tensors.items():
        name = blocks.removesuffix("_blocks")
        scales = f"{name}_scales"
        if name == blocks or scales not in tensors:
            continue
        if len(stored.shape) != 4 or (*tensors[scales].shape, 16) != stored.shape:
            raise AdapterError(Reason.CORRUPT, f"tensors {blocks} and {scales} do not match")
        experts, rows, groups, _ = stored.shape
        shape = (experts, 32 * groups, rows)
        parts[name] = _Parts((blocks, scales), shape, _unpack_mxfp4)
    return parts


def _unpack_mxfp4(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    weight: torch.Tensor = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    return weight


_SIMPLE: Final[
    Mapping[str, Callable[[Mapping[str, Stored], Statement], dict[str, _Parts] | None]]
] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "modelopt": _modelopt,
    "compressed-tensors": _compressed_tensors,
    "mxfp4": _mxfp4,
}
"""Method name → how to find the weights in a checkpoint's tensors; None if not simple."""
