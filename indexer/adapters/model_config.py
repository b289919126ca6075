"""The config.json of a full finetune, and whether it describes a model of the base's family."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from transformers import CONFIG_MAPPING, PreTrainedConfig

from hubdelta.indexer.base_structure import LOADING_ERRORS, BaseStructure, read_config
from hubdelta.schemas.errors import AdapterError, Reason

_SWITCHES: Final = re.compile(
    r"\w+_implementation(_internal)?|use_kernels|(kernel|fusion|distributed)_config|auto_map"
    r"|output_(attentions|hidden_states)|return_dict"
)
"""Settings that say how a model is run, not what it is: a stranger's config decides neither which
code that is nor how much memory it takes."""

_SIZES: Final = re.compile(r"layer|position|n_ctx|head|expert|depth")
"""Names of settings by which a model grows."""

_MOST_TIMES: Final = 64
"""A finetune may have so many times the base's: modules are made before tensors are looked at, and
a million layers would keep a run from its work."""


def parse_model_config(content: bytes, base: BaseStructure) -> Mapping[str, Any]:
    """Read a full finetune's config.json, and check that its text model is one of the base's kind.

    An image-text model and the model of its text part alone are of one kind: what is saved through
    the text class of an image-text base (gemma3_text under gemma3) is a finetune of it, and the
    other way around.

    Args:
        content: the file.
        base: the base that it must fit.

    Returns:
        The settings as they are written.

    Raises:
        AdapterError: corrupt (no JSON), base_mismatch (another architecture or hidden size, or
            sizes beyond all measure), or unsupported_adapter (transformers cannot read it).
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AdapterError(Reason.CORRUPT, f"config.json is not JSON: {error}") from error
    found = found if isinstance(found, dict) else {}
    own = read_config(base.folder)
    _check_sizes(found, own.to_dict())
    if found.get("model_type") not in CONFIG_MAPPING:
        raise _mismatch(found.get("model_type"), "unknown", base)
    text = text_config(model_config(found))
    same_kind = (
        found["model_type"] == own.model_type or text.model_type == text_config(own).model_type
    )
    hidden_size = getattr(text, "hidden_size", "unknown")
    if not same_kind or hidden_size != base.hidden_size:
        raise _mismatch(found["model_type"], hidden_size, base)
    return found


def model_config(settings: Mapping[str, Any]) -> PreTrainedConfig:
    """A config as transformers understands it, without the settings that choose code.

    Raises:
        AdapterError: unsupported_adapter, transformers refuses it.
    """
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[settings["model_type"]].from_dict(
            _plain(settings)
        )
    except LOADING_ERRORS as error:
        raise config_error(error) from error
    return config


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the language model: of an image-text model, a part of it."""
    text: PreTrainedConfig = config.get_text_config(decoder=True)
    return text


def config_error(error: Exception) -> AdapterError:
    """The failure of a finetune whose config transformers cannot make a model of."""
    return AdapterError(Reason.UNSUPPORTED_ADAPTER, f"its config.json makes no model: {error!r}")


def _plain(value: Any) -> Any:
    """A config without switches; infinities, which JSON has not, as transformers writes them."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {name: _plain(part) for name, part in value.items() if not _SWITCHES.fullmatch(name)}
    if isinstance(value, list):
        return list(map(_plain, value))
    return value


def _check_sizes(found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse a model too large to be built, before transformers makes as much as its config."""
    usual = dict(_integers(own))
    for name, value in _integers(found):
        if _SIZES.search(name) and value > _MOST_TIMES * usual.get(name, value) > 0:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"its config.json says {name}={value:.3g}, the base's {usual[name]}",
            )


def _integers(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, int]]:
    """All whole numbers of a config by name; those of its text part as if they were its own."""
    for name, value in settings.items():
        if isinstance(value, int):
            yield within + name, value
        elif isinstance(value, dict):
            yield from _integers(value, within if name == "text_config" else f"{within}{name}.")


def _mismatch(model_type: object, hidden_size: object, base: BaseStructure) -> AdapterError:
    return AdapterError(
        Reason.BASE_MISMATCH,
        f"a {model_type} of hidden size {hidden_size}; the base is a {base.model_type} of "
        f"{base.hidden_size}",
    )
