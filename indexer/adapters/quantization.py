"""Whether a whole model's weights are quantized, and how: as stated, or judged by tensor names.

A repository states its format in config.json, or in a file beside it. If it does not, tensor names
show what was done to them, but not how to interpret them.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from hubdelta.schemas.errors import AdapterError, Reason

Statement = Mapping[str, Any]
"""What a repository says about its format, with at least a `quant_method`."""

BESIDE: Final = {
    "hf_quant_config.json": "modelopt",
    "quant_config.json": "awq",
    "quantize_config.json": "gptq",
}
"""Files of older quantizers not repeated in config.json → the method that writes each."""

_KEYS: Final = {
    "compression_config": "compressed-tensors",
    "quantization": "mlx",
    "quantization_config": "unknown",
}
"""Keys of config.json that hold a statement → the method, if the statement names none."""

_PLAIN: Final = frozenset({"F64", "F32", "F16", "BF16"})

_MARKS: Final = (
    ("bitsandbytes", r"\.(absmax|nested_absmax|quant_map|nested_quant_map|SCB|weight_format)$"),
    ("bitsandbytes", r"\.quant_state\."),
    ("GPTQ", r"\.g_idx$"),
    ("AWQ or GPTQ", r"\.(qweight|qzeros)$"),
    ("AQLM", r"\.(codes|codebooks)$"),
    ("HQQ", r"\.(W_q|meta)$"),
    ("VPTQ", r"\.(centroids|res_centroids)\."),
    ("EETQ", r"\.weight_scales$"),
    ("quanto", r"\.weight\._(data|scale|shift)$"),
    ("TorchAO", r"(:_?|\.)(qdata|data|scale_and_zero|layout_tensor|tensor_impl)$"),
    ("MXFP4", r"_(blocks|scales)$"),
    ("NVFP4", r"\.(weight_scale_2|weight_global_scale)$"),
    ("compressed-tensors", r"\.(weight_packed|weight_shape|weight_g_idx)$"),
    ("MLX", r"\.biases$"),
    ("8-bit with block scales", r"_scale_inv$"),
    ("unknown format", r"(^|[._])(scales?|zero_points?|zeros|pre_quant_scale|amax)$"),
    ("unknown format", r"_(scale|zero_point|amax)$"),
)
"""Formats by names of the tensors that they add, most specific first."""


def stated(config: Mapping[str, Any]) -> Statement | None:
    """What a config.json says about how its weights are quantized; None if they are not."""
    text = config.get("text_config")
    for settings in (config, text if isinstance(text, Mapping) else {}):
        for key, method in _KEYS.items():
            found = settings.get(key)
            if isinstance(found, Mapping) and found:
                named = found.get("quant_method") or found.get("quant_type") or method
                return {**found, "quant_method": str(named)}
    return None


def stated_beside(file: str, content: Any) -> Statement:
    """What a file of `BESIDE` says, as `quantization_config` would.

    Args:
        file: its name.
        content: of its JSON. ModelOpt's has the settings under `quantization`.
    """
    settings = content if isinstance(content, Mapping) else {}
    nested = settings.get("quantization")
    return {**(nested if isinstance(nested, Mapping) else settings), "quant_method": BESIDE[file]}


def with_statement_beside(
    config: Mapping[str, Any], dtypes: Collection[str], read: Callable[[str], bytes]
) -> Mapping[str, Any]:
    """A config.json completed from a file beside it, if the weights' types suggest quantization.

    Args:
        config: the settings as written.
        dtypes: of the tensors, as safetensors spells them.
        read: gives the content of a file beside it.

    Raises:
        AdapterError: as raised by `read`, except no_weights, which means that there is no such
            file.
    """
    if stated(config) or _PLAIN.issuperset(dtypes):
        return config
    for file in BESIDE:
        try:
            content = read(file)
        except AdapterError as error:
            if error.reason is Reason.NO_WEIGHTS:
                continue
            raise
        try:
            statement = stated_beside(file, json.loads(content))
        except (ValueError, RecursionError) as error:
            raise quantized(f"{file} is not JSON") from error
        return {**config, "quantization_config": statement}
    return config


def quantized(what: str) -> AdapterError:
    """The failure of a finetune whose weights cannot be recovered."""
    return AdapterError(
        Reason.UNSUPPORTED_ADAPTER, f"its weights are quantized ({what}): embed the original"
    )


def format_of(names: Collection[str]) -> str | None:
    """The format that adds tensors of such names; None if none of them looks like a scale."""
    for method, pattern in _MARKS:
        mark = next(filter(re.compile(pattern).search, names), None)
        if mark:
            return f"{method}, by its tensor {mark}"
    return None


def described(statement: Statement) -> str:
    """The name of a format, for a message."""
    bits = statement.get("bits") or statement.get("w_bit")
    details = (statement.get("quant_algo"), statement.get("format"), bits and f"{bits}-bit")
    return " ".join(map(str, filter(None, (statement["quant_method"], *details))))
