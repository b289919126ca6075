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
"""Settings of how a model is run, not of what it is: an untrusted config must not decide which code
runs or how much memory it takes."""

_SIZES: Final = re.compile(r"layer|position|n_ctx|head|expert|depth")
"""Names of settings that determine a model's size."""

_MOST_TIMES: Final = 64
"""How many times the base's sizes a finetune may have: modules are created before tensors are read,
and a million layers would block a run."""


def parse_model_config(content: bytes, base: BaseStructure) -> Mapping[str, Any]:
    """Read a full finetune's config.json, and check that its text model is of the base's kind.

    An image-text model and its text part alone are of the same kind: what is saved through
    the text class of an image-text base (gemma3_text under gemma3) is a finetune of it, and the
    other way around.

    Args:
        content: the file.
        base: the base that it must fit.

    Returns:
        The settings as written.

    Raises:
        AdapterError: corrupt (not JSON), base_mismatch (another architecture or hidden size, or
            excessive sizes), or unsupported_adapter (transformers cannot read it).
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
    """A transformers config, without the settings that choose code.

    Raises:
        AdapterError: unsupported_adapter, transformers rejects it.
    """
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[settings["model_type"]].from_dict(
            _plain(settings)
        )
    except LOADING_ERRORS as error:
        raise config_error(error) from error
    return config


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the language model: in an image-text model, a part of it."""
    text: PreTrainedConfig = config.get_text_config(decoder=True)
    return text


def config_error(error: Exception) -> AdapterError:
    """The failure of a finetune whose config transformers cannot build a model from."""
    return AdapterError(Reason.UNSUPPORTED_ADAPTER, f"its config.json makes no model: {error!r}")


def _plain(value: Any) -> Any:
    """A config without switches; infinities, which JSON lacks, as transformers writes them."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {name: _plain(part) for name, part in value.items() if not _SWITCHES.fullmatch(name)}
    if isinstance(value, list):
        return list(map(_plain, value))
    return value


def _check_sizes(found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Reject a model that is too large to build, before transformers creates even its config."""
    usual = dict(_integers(own))
    for name, value in _integers(found):
        if _SIZES.search(name) and value > _MOST_TIMES * usual.get(name, value) > 0:
            raise AdapterError(
                Reason.BASE_MISMATCH,
                f"its config.json says {name}={value:.3g}, but the base's says {usual[name]}",
            )


def _integers(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, int]]:
    """All integers of a config by name; those of its text part count as its own."""
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
