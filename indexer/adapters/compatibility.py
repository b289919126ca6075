"""Whether an adapter fits the base, judged by tensor names and shapes before fetching weights."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.schemas.errors import AdapterError, Reason, printable

PREFIX = "base_model.model."
"""The prefix that PEFT puts before the base's module names when it saves an adapter."""

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?:embedding_)?(?P<factor>[AB])(?:\.weight)?$")

_WRAPPED = re.compile(r"(?:\.base_layer)+$")
"""What PEFT adds if several parameters of one module are adapted."""

_UNUSED_RANK = 1024

_CUT_RANKS = frozenset({"ADAMSS", "DEFT", "LOKR", "OSF", "TINYLORA"})
"""Methods whose rank PEFT limits to the size of the layer; for full LoKr factors, LyCORIS writes
100000."""

Shape = tuple[int, ...]


def check_fit(
    tensors: Mapping[str, Shape],
    modules: Mapping[str, tuple[int, int]],
    parameters: Mapping[str, Sequence[Shape]] = MappingProxyType({}),
) -> None:
    """Check the low-rank factors of an adapter against the base's layers.

    A factor A is [r, in_features] and B is [out_features, r]; on an embedding layer A is
    [r, rows] and B is [columns, r] (PEFT, tuners/lora/layer.py). Factors of a single parameter,
    such as a router's, follow the parameter's shape; an expert's is [experts, out, in] or
    [experts, in, out], and r is multiplied by the number of experts. Tensors of other kinds are
    checked when they are loaded.

    Args:
        tensors: saved tensor name → shape.
        modules: the base's module name → (out_features, in_features).
        parameters: the base's module name → shapes of its individually adapted parameters.

    Raises:
        AdapterError: no_weights (no tensors), base_mismatch (naming the tensor), corrupt (only a
            shard of each tensor).
    """
    if not tensors:
        raise AdapterError(Reason.NO_WEIGHTS, "the weight file holds no tensors")
    ranks: dict[str, int] = {}
    known = 0
    for name, shape in tensors.items():
        match = _FACTOR.match(name)
        if match is None:
            continue
        module = match["module"].removeprefix(PREFIX)
        if held := parameters.get(_WRAPPED.sub("", module)):
            known += 1
            _check_parameter(name, shape, match["factor"] == "A", held)
            continue
        layer = modules.get(module)
        if layer is None:
            continue
        known += 1
        out_features, in_features = layer
        is_a = match["factor"] == "A"
        wanted = in_features if is_a else out_features
        if len(shape) == 2 and is_a and ".lora_embedding_" in name:
            wanted = shape[1]  # tokens may have been added to the vocabulary
        if len(shape) != 2 or shape[1 if is_a else 0] != wanted:
            if not is_a and (parts := _parts(name, tensors, out_features)) > 1:
                raise AdapterError(
                    Reason.CORRUPT,
                    f"tensor {name} has shape {list(shape)}, 1/{parts} of its rows, and so has the "
                    "other factor: it is one rank's shard of an FSDP training. Its author should "
                    "gather the weights before saving (FULL_STATE_DICT)",
                )
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has shape {list(shape)}, but the base's layer has "
                f"{in_features} inputs and {out_features} outputs: trained on another base",
            )
        rank = shape[0] if is_a else shape[1]
        if ranks.setdefault(match["module"], rank) != rank:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"tensor {name} has rank {rank}, but its other factor {ranks[match['module']]}",
            )
    factors = [name for name in tensors if _FACTOR.match(name)]
    # PEFT renames and joins the factors of experts that were saved one by one.
    if factors and not known and not any(".experts." in name for name in factors):
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"none of its {len(factors)} low-rank tensors names a layer of the base "
            f"(the first is {factors[0]})",
        )


def _check_parameter(name: str, shape: Shape, is_a: bool, held: Sequence[Shape]) -> None:
    """Check a factor against the individually adapted parameters of its module."""
    sizes = {
        size
        for whole in held
        for size in (whole[-2:] if len(whole) != 2 else whole[1:] if is_a else whole[:1])
    }
    if len(shape) != 2 or shape[1 if is_a else 0] not in sizes:
        raise AdapterError(
            Reason.BASE_MISMATCH,
            f"tensor {name} has shape {list(shape)}, but the base's parameter has "
            f"{' or '.join(str(list(whole)) for whole in held)}: trained on another base",
        )


def _parts(up: str, tensors: Mapping[str, Shape], out_features: int) -> int:
    """How many shards both factors were split into along their rows, if this is one; or 1.

    Args:
        up: name of the factor B; complete, it is [out_features, r], and A is [r, in_features].
        tensors: tensor name → shape.
        out_features: of the base's layer.
    """
    rows, *columns = tensors[up]
    down = tensors.get(up.replace("lora_B", "lora_A"), ())
    if not rows or len(columns) != 1 or not down or out_features % rows:
        return 1
    parts = out_features // rows
    return parts if down[0] * parts == columns[0] else 1


def check_ranks(config: AdapterConfig, tensors: Mapping[str, Shape]) -> None:
    """Check the sizes in a config against its tensors, since PEFT allocates by the config.

    Raises:
        AdapterError: corrupt: the config asks for more than the weights hold.
    """
    factors = [(_FACTOR.match(name), shape) for name, shape in tensors.items()]
    ranks = [
        shape[0 if match["factor"] == "A" else -1] for match, shape in factors if match and shape
    ]
    pattern = config.values.get("rank_pattern")
    asked = dict(pattern) if isinstance(pattern, dict) else {}
    if config.peft_type == "LORA" and ranks:
        allowed = max(ranks)
        # With a pattern for each module, the general rank may be unused.
        general_allowed = max(allowed, _UNUSED_RANK) if asked else allowed
    else:
        allowed = general_allowed = max((max(s) for s in tensors.values() if s), default=0)
    sizes = {key: config.values.get(key) for key in ("r", "init_r", "num_virtual_tokens")}
    if config.peft_type in _CUT_RANKS:
        sizes, asked = {}, {}
    for key, size, most in [
        *((key, size, general_allowed) for key, size in sizes.items()),
        *((f"rank_pattern {key}", size, allowed) for key, size in asked.items()),
    ]:
        if isinstance(size, int) and size > most:
            raise AdapterError(
                Reason.CORRUPT,
                f"adapter_config.json says {key}={size:.3g}, but its tensors hold at most {most}",
            )


def adapted_modules(tensors: Mapping[str, object]) -> list[str]:
    """Last names of the modules whose low-rank factors the weights hold, sorted: q_proj, ..."""
    matches = (_FACTOR.match(name) for name in tensors)
    return sorted({printable(match["module"].rpartition(".")[2]) for match in matches if match})
