"""Which tensors of a checkpoint form which parameter of a model, as transformers loads them.

Names in old checkpoints are converted, the base model's prefix is added or removed, separately
saved experts are merged: the rules are those of `transformers.conversion_mapping`, applied as in
`convert_and_load_state_dict_in_model`, but to one parameter at a time.

A language model may also be saved as part of a larger one: of an image-text model
(`model.language_model.layers…`, `language_model.model.layers…`), or of a training framework's
wrapper (`module.model.layers…`). Such names are tried without their first words.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from hubdelta.indexer.base_structure import below_head

_WRAPPERS: Final = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
"""What torch.compile, FSDP, activation checkpointing and Fabric insert anywhere in names."""

_OUTER: Final = re.compile(r"(module|pretrained_model|model|language_model|text_model)\.")
"""First words of names: DDP's and TRL's wrappers, and the path to the text part of larger models.
The path to a vision tower has other words."""


@dataclass(frozen=True, eq=False)
class Source:
    """The origin of a parameter, or of several together.

    Attributes:
        target: the first parameter formed.
        tensors: names in the checkpoint → the converter's pattern for each.
        converter: how they are joined or split; None if a tensor is the parameter itself, so that
            several tensors conflict.
    """

    target: str
    tensors: Mapping[str, str]
    converter: WeightConverter | None = None

    @property
    def outputs(self) -> list[str]:
        """The parameters formed."""
        if self.converter is None:
            return [self.target]
        first, *others = self.converter.target_patterns
        return [self.target, *(self.target.replace(first, other) for other in others)]

    def make(
        self, tensors: dict[str, torch.Tensor], model: PreTrainedModel
    ) -> dict[str, torch.Tensor]:
        """The parameters by name.

        Args:
            tensors: by name in the checkpoint; used ones are removed, so that none is kept longer
                than needed.
            model: their model.
        """
        if self.converter is None:
            return {self.target: tensors.pop(next(iter(self.tensors)))}
        converter = deepcopy(self.converter)
        for name, pattern in self.tensors.items():
            converter.add_tensor(self.target, name, pattern, tensors.pop(name))
        made = converter.convert(self.target, model=model, config=model.config)
        return {name: made[0] if isinstance(made, list) else made for name, made in made.items()}


@dataclass(frozen=True)
class Names:
    """The names of a model's parts in a checkpoint.

    Attributes:
        sources: of every parameter and buffer that it holds, by name. A parameter stored under the
            name of one tied to it has that one's source.
        leftovers: names that match no parameter → their possible names in the model.
    """

    sources: Mapping[str, Source]
    leftovers: Mapping[str, Collection[str]]


def find_names(model: PreTrainedModel, names: Collection[str]) -> Names:
    """Find the parts of a model in a checkpoint.

    Args:
        model: with or without weights.
        names: of the tensors in the checkpoint.
    """
    state = model.state_dict()
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    prefix = below_head(model)[1].removesuffix(".") or model.base_model_prefix

    found: dict[str, dict[str, str | None]] = defaultdict(dict)
    places: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names, key=dot_natural_key):
        for inner in inner_names(name):
            target, pattern = rename_source_key(inner, renamings, converters, prefix, state)
            if target not in state and inner in state:
                target, pattern = rename_source_key(inner, [], [], prefix, state)
            places[name] += [inner, f"{prefix}.{inner}", target]
            if target in state:
                found[target][name] = pattern
                break

    sources: dict[str, Source] = {}
    for target, tensors in found.items():
        converted = {name: pattern for name, pattern in tensors.items() if pattern is not None}
        if converted:
            converter = by_pattern[next(iter(converted.values()))]
            source = Source(target, converted, converter)
        else:
            source = Source(target, dict.fromkeys(tensors, ""))
        for output in source.outputs:
            sources.setdefault(output, source)
    sources |= _of_tied(model, sources)
    used = {name for source in sources.values() for name in source.tensors}
    return Names(sources, {name: own for name, own in places.items() if name not in used})


def inner_names(name: str) -> Iterator[str]:
    """A tensor's name as it is, then without wrappers of the language model, word by word."""
    yield name
    bare = _WRAPPERS.sub("", name)
    if bare != name:
        yield bare
    while outer := _OUTER.match(bare):
        bare = bare[outer.end() :]
        yield bare


def _of_tied(model: PreTrainedModel, sources: Mapping[str, Source]) -> dict[str, Source]:
    """Sources of parameters that the checkpoint holds only under a tied one's name."""
    groups: dict[str, list[str]] = defaultdict(list)
    for target, original in model.all_tied_weights_keys.items():
        groups[original].append(target)
    more = {}
    for original, targets in groups.items():
        names = [original, *targets]
        held = [sources[name] for name in names if name in sources and not sources[name].converter]
        if held:
            absent = (name for name in names if name not in sources)
            more.update({name: Source(name, held[0].tensors) for name in absent})
    return more
