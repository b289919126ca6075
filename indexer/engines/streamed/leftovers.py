"""Tensors of a checkpoint that belong to no parameter, and whether a hidden state may need them.

Heads, vision towers and extra layers do not matter. A tensor inside a part that runs is a scale of
quantized weights, an unmerged adapter, or from another model: silently ignoring it would give a
wrong vector.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from transformers import PreTrainedModel

from hubdelta.indexer.adapters.quantization import format_of, quantized
from hubdelta.indexer.adapters.shards import Stored
from hubdelta.indexer.engines.streamed.naming import Names, inner_names
from hubdelta.indexer.engines.streamed.skeleton import Unit
from hubdelta.schemas.errors import AdapterError, Reason

_COMPUTED: Final = re.compile(
    r"(^|[._])(inv_freq|cos_cached|sin_cached|causal_mask|masked_bias|position_ids"
    r"|embed_positions\.weights)$"
)
"""Buffers saved by older versions of transformers, which models compute themselves."""

_MASK: Final = re.compile(r"(^|\.)(attn|attention|self_attention)\.bias$")
"""The causal mask of GPT-2 and similar models, which has four axes, while a bias has one."""

_UNMERGED: Final = re.compile(r"\.(lora_\w+|base_layer)\.")


def check_leftovers(
    model: PreTrainedModel,
    names: Names,
    tensors: Mapping[str, Stored],
    units: Iterable[Unit],
    tables: Collection[str],
    familiar: Collection[str] | None,
) -> None:
    """Reject a checkpoint with a tensor in a part that runs that belongs to no parameter.

    Args:
        model: the model.
        names: of its parameters in the checkpoint.
        tensors: all tensors of the checkpoint.
        units: the parts of the model that run.
        tables: names of embeddings that run.
        familiar: tensors of the base, which transformers loads whatever else it holds; None for the
            base itself, where only quantized weights are rejected.

    Raises:
        AdapterError: unsupported_adapter.
    """
    running = (
        *(f"{unit.name}." for unit in units if unit.is_layer or not any(unit.module.children())),
        *(f"{table.removesuffix('.weight')}." for table in tables),
    )
    ignored = "|".join(f"({p})" for p in model._keys_to_ignore_on_load_unexpected or ())
    left = [
        name
        for name, places in names.leftovers.items()
        if any(place.startswith(running) for place in places)
        and not _is_computed(name, tensors[name])
        and not (ignored and re.search(ignored, name))
    ]
    if method := format_of(left):
        raise quantized(method)
    known = {_innermost(name) for name in familiar or ()}
    strange = [name for name in left if familiar is not None and _innermost(name) not in known]
    if any(map(_UNMERGED.search, strange)):
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            "an adapter in its weights was not merged: ask its author for merge_and_unload",
        )
    if strange:
        raise AdapterError(
            Reason.UNSUPPORTED_ADAPTER,
            f"tensor {strange[0]} has no place in the model that its config.json describes",
        )


def _innermost(name: str) -> str:
    """A tensor's name without prefixes of wrappers around the language model."""
    *_, bare = inner_names(name)
    return bare


def _is_computed(name: str, stored: Stored) -> bool:
    return bool(_COMPUTED.search(name) or (_MASK.search(name) and len(stored.shape) == 4))
