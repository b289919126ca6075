"""Does an adapter fit the base? Told from tensor names and shapes, before weights are fetched."""

import re
from collections.abc import Mapping

from hubdelta.schemas.errors import AdapterError, Reason

PREFIX = "base_model.model."
"""What PEFT puts before the base's own module names when it saves an adapter."""

_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?:embedding_)?(?P<factor>[AB])(?:\.default)?(?:\.weight)?$"
)

Shape = tuple[int, ...]


def check_fit(tensors: Mapping[str, Shape], modules: Mapping[str, tuple[int, int]]) -> None:
    """Check the low-rank factors of an adapter against the base's layers.

    A factor A is [r, in_features] and B is [out_features, r]; on an embedding layer A is
    [r, rows] and B is [columns, r] (PEFT, tuners/lora/layer.py). Tensors of other kinds are
    checked when they are loaded.

    Args:
        tensors: tensor name → shape, as saved.
        modules: the base's module name → (out_features, in_features).

    Raises:
        AdapterError: no_weights (no tensor at all), base_mismatch (naming the tensor).
    """
    if not tensors:
        raise AdapterError(Reason.NO_WEIGHTS, "the weight file holds no tensor")
    ranks: dict[str, int] = {}
    known = 0
    for name, shape in tensors.items():
        match = _FACTOR.match(name)
        layer = modules.get(match["module"].removeprefix(PREFIX)) if match else None
        if match is None or layer is None:
            continue
        known += 1
        out_features, in_features = layer
        is_a = match["factor"] == "A"
        wanted = in_features if is_a else out_features
        if len(shape) != 2 or shape[1 if is_a else 0] != wanted:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has shape {list(shape)}, but the base's layer has "
                f"{in_features} inputs and {out_features} outputs: trained on another base",
            )
        rank = shape[0] if is_a else shape[1]
        if ranks.setdefault(match["module"], rank) != rank:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has rank {rank}, its other factor {ranks[match['module']]}",
            )
    factors = [name for name in tensors if _FACTOR.match(name)]
    if factors and not known:
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"none of its {len(factors)} low-rank tensors names a layer of the base "
            f"(the first is {factors[0]})",
        )


def adapted_modules(tensors: Mapping[str, object]) -> list[str]:
    """Last names of the modules whose low-rank factors the weights hold, sorted: q_proj, ..."""
    matches = (_FACTOR.match(name) for name in tensors)
    return sorted({match["module"].rpartition(".")[2] for match in matches if match})
