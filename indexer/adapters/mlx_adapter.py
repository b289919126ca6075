"""Converting mlx-lm adapters to PEFT's form.

mlx-lm multiplies from the other side: y = W x + scale · (x A) B with lora_a [in, r] and lora_b
[r, out], so PEFT's factors are their transposes, and lora_alpha is scale · r. DoRA's `m` is
PEFT's magnitude vector (mlx_lm/tuner/lora.py and dora.py).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX, Shape
from hubdelta.schemas.errors import AdapterError, Reason

_TENSOR: Final = re.compile(r"(?P<module>.+)\.(?P<part>lora_a|lora_b|m)")
_OF_LAYER: Final = {
    "lora_a": "lora_A.weight",
    "lora_b": "lora_B.weight",
    "m": "lora_magnitude_vector",
}
_OF_EMBEDDING: Final = {
    "lora_a": "lora_embedding_A",
    "lora_b": "lora_embedding_B",
    "m": "lora_magnitude_vector",
}


def peft_names(shapes: Mapping[str, Shape], is_embedding: Callable[[str], bool]) -> dict[str, str]:
    """MLX's tensor names → PEFT's.

    Args:
        shapes: tensor name → shape.
        is_embedding: whether a module of that name is an embedding in the base.

    Raises:
        AdapterError: unsupported_adapter: a tensor of something other than a dense layer or
            embedding.
    """
    names = {}
    for name, shape in shapes.items():
        match = _TENSOR.fullmatch(name)
        if match is None or len(shape) != (1 if match["part"] == "m" else 2):
            raise AdapterError(
                Reason.UNSUPPORTED_ADAPTER,
                f"tensor {name} {list(shape)} of this MLX adapter is not a low-rank factor of a "
                "linear layer or an embedding",
            )
        parts = _OF_EMBEDDING if is_embedding(match["module"]) else _OF_LAYER
        names[name] = f"{PREFIX}{match['module']}.{parts[match['part']]}"
    return names


def peft_settings(config: AdapterConfig, shapes: Mapping[str, Shape]) -> AdapterConfig:
    """The config that PEFT would have written; the tensors say which modules are adapted.

    Raises:
        AdapterError: unsupported_adapter: a whole model, or settings without a scale.
    """
    values = config.values
    kind = values.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"MLX saved it with fine_tune_type={kind!r:.20}: whole layers, not a low-rank adapter; "
            "its author can fuse it with mlx_lm.fuse and publish the whole model",
        )
    written = values.get("lora_parameters")
    settings: dict[str, Any] = written if isinstance(written, dict) else {}
    scale = settings.get("scale")
    if "alpha" in settings or isinstance(scale, bool) or not isinstance(scale, int | float):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            "its MLX lora_parameters name no scale alone (old versions of mlx-lm multiplied it by "
            "alpha / rank, new ones do not): its author should save it with a current mlx-lm",
        )
    ranks = {shape[1] for name, shape in shapes.items() if name.endswith(".lora_a")}
    if len(ranks) != 1:
        raise AdapterError(Reason.CORRUPT, f"its MLX factors have the ranks {sorted(ranks)}")
    (rank,) = ranks
    more: dict[str, Any] = {"r": rank, "lora_alpha": scale * rank, "use_dora": kind == "dora"}
    base = values.get("base_model_name_or_path")
    return AdapterConfig("LORA", more | ({"base_model_name_or_path": base} if base else {}))
