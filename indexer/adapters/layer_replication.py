"""Checks of layer_replication in a config, before PEFT creates the layers.

PEFT copies every module of a layer each time that the setting names it. How many layers an adapter
may request is limited by the layers that it has tensors for, as with ranks.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from torch import nn

from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE, AdapterConfig
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.errors import AdapterError, Reason

_KEY: Final = "layer_replication"
_LISTS: Final = ("layers", "bert.encoder.layer", "encoder.layer", "h")
_MOST_TIMES: Final = 4
"""How many times the base's layers may occur without tensors: layers_to_transform skips some."""


def check_replication(config: AdapterConfig, base: BaseStructure) -> None:
    """Check that layer_replication names layers of the base.

    Raises:
        AdapterError: corrupt, naming the setting.
    """
    pairs = _asked(config)
    is_list = isinstance(pairs, list) and all(
        isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in pairs
    )
    if not is_list:
        raise _refusal(f"is {pairs!r:.60}, not a list of pairs of a first layer and a last one")
    found = _layers(base)
    count = len(found[1]) if found else 0
    for start, end in pairs if found else ():
        # As in any Python list, -1 is the last one.
        if start < end and not -count <= start < end <= count:
            raise _refusal(f"asks for layers {start} to {end} of a base of {count}")


def check_layer_count(config: AdapterConfig, base: BaseStructure, tensors: Iterable[str]) -> None:
    """Check the number of layers in a config against the layers that have tensors.

    Args:
        config: one that `check_replication` has passed.
        base: the base.
        tensors: names of the adapter's tensors.

    Raises:
        AdapterError: corrupt, naming the setting.
    """
    found = _layers(base)
    if not _asked(config) or found is None:
        return
    name, layers = found
    asked = sum(max(end - start, 0) for start, end in _asked(config))
    place = re.compile(rf"{re.escape(PREFIX + name)}\.(\d+)\.")
    held = len({match[1] for tensor in tensors if (match := place.match(tensor))})
    if asked > held + _MOST_TIMES * len(layers):
        raise _refusal(
            f"asks for {asked:,} layers, but its tensors belong to {held:,}, and the base has "
            f"{len(layers)}"
        )


def replicated_names(config: AdapterConfig, base: BaseStructure) -> Iterator[str]:
    """Names of modules and parameters in the layers that PEFT creates.

    Args:
        config: one that has passed both checks.
        base: the base.
    """
    found = _layers(base)
    if not _asked(config) or found is None:
        return
    name, layers = found
    place = 0
    for start, end in _asked(config):
        for number in range(start, end):
            layer = layers[number]
            yield from (f"{name}.{place}.{inner}" for inner, _ in layer.named_modules() if inner)
            yield from (f"{name}.{place}.{inner}" for inner, _ in layer.named_parameters())
            yield f"{name}.{place}"
            place += 1


def _asked(config: AdapterConfig) -> list[list[int]]:
    """The setting as written; no other PEFT type has it."""
    return config.values.get(_KEY) or [] if config.peft_type == "LORA" else []


def _layers(base: BaseStructure) -> tuple[str, nn.ModuleList] | None:
    """The list of layers that PEFT replicates (`replicate_layers`) and its name, if found.

    If PEFT finds none, it rejects the adapter itself.
    """
    path, body = "", base.model
    while isinstance(inner := getattr(body, "model", None), nn.Module):
        path, body = f"{path}model.", inner
    for name in _LISTS:
        try:
            layers = body.get_submodule(name)
        except AttributeError:
            continue
        return (path + name, layers) if isinstance(layers, nn.ModuleList) else None
    return None


def _refusal(what: str) -> AdapterError:
    return AdapterError(Reason.CORRUPT, f"{CONFIG_FILE}: {_KEY} {what}")
