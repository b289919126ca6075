"""Rejecting adapters saved from a wrapped, sharded or ungathered model, with the cause."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from hubdelta.indexer.adapters.compatibility import Shape
from hubdelta.schemas.errors import AdapterError, Reason

_WRAPPERS: Final = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
    "_flat_param": "FSDP",
}
_WRAPPED: Final = re.compile(rf"(?<![^.])({'|'.join(_WRAPPERS)})\.|^(module)\.")


def reject_wrapped(names: Iterable[str]) -> None:
    """Reject tensor names changed by a wrapper: PEFT has no place for them.

    Raises:
        AdapterError: corrupt, naming the wrapper.
    """
    found = [(name, match) for name in names if (match := _WRAPPED.search(name))]
    if found:
        name, match = found[0]
        word = match[1] or match[2]
        wrapper = _WRAPPERS.get(word, "DistributedDataParallel or DeepSpeed")
        raise AdapterError(
            Reason.CORRUPT,
            f"{len(found)} of its tensor names contain {word}., which {wrapper} adds "
            f"(the first is {name}), and PEFT loads none of these: its author should save the "
            "unwrapped model",
        )


def reject_empty(shapes: Mapping[str, Shape]) -> None:
    """Reject empty tensors if the base has a place for them.

    Raises:
        AdapterError: corrupt, naming ZeRO-3.
    """
    empty = sorted(name for name, shape in shapes.items() if 0 in shape)
    if empty:
        raise AdapterError(
            Reason.CORRUPT,
            f"{len(empty)} of its {len(shapes)} tensors are empty (the first is {empty[0]}), as "
            "when DeepSpeed ZeRO-3 saves weights that were not gathered: its author should save "
            "with stage3_gather_16bit_weights_on_model_save, or restore them from the checkpoint "
            "with zero_to_fp32.py",
        )
