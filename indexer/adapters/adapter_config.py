"""Reading adapter_config.json as written by any PEFT version."""

import json
import logging
import math
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from hubdelta.schemas.errors import AdapterError, Reason, printable

logger = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
MLX = "MLX"
"""The type given to an adapter saved by mlx-lm, whose config names none."""
LONGEST_CONFIG = 1 << 20  # bytes; real ones have a few thousand

_MOST = 2**31  # beyond any real rank or alpha, and the limit of a column

_NO_EFFECT = frozenset(
    {
        # provenance, and settings of training or of other loaders
        "_commit",
        "auto_mapping",
        "base_model_class",
        "inference_mode",
        "megatron_config",
        "megatron_core",
        "model_type",
        "parent_library",
        "peft_version",
        "qalora_group_size",
        "runtime_config",
        "training_args",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
    }
)

OWN_SETTINGS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "lora_alpha",
        "lora_dropout",
        "peft_version",
        "revision",
        "task_type",
    }
)
"""Settings in which adapters of the same tensors differ; none says where a tensor belongs."""

_MLX_KEYS = frozenset({"fine_tune_type", "lora_parameters"})
_NUMBERS = frozenset({"r", "lora_alpha", "alpha"})
_NUMBERS_BY_PATTERN = ("rank_pattern", "alpha_pattern")
_MODULES = frozenset({"target_modules", "exclude_modules", "modules_to_save"})


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter_config.json says.

    Attributes:
        peft_type: LORA, IA3, ..., upper case; MLX for an adapter of mlx-lm.
        values: every key as written, without nulls (a null means PEFT's default).
    """

    peft_type: str
    values: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "AdapterConfig":
        """Read an adapter_config.json from disk; raises as `parse`."""
        try:
            return cls.parse(file.read_bytes())
        except OSError as error:
            raise AdapterError(Reason.CORRUPT, f"{file}: {error.strerror}") from error

    @classmethod
    def parse(cls, text: bytes) -> "AdapterConfig":
        """Read the content of an adapter_config.json.

        Raises:
            AdapterError: corrupt (not a JSON object), unsupported_adapter (no PEFT type).
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AdapterError(Reason.CORRUPT, f"{CONFIG_FILE} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise AdapterError(Reason.CORRUPT, f"{CONFIG_FILE} does not hold a JSON object")
        peft_type = content.get("peft_type")
        if peft_type is None and _MLX_KEYS & content.keys():
            peft_type = MLX
            content.setdefault("base_model_name_or_path", content.get("model"))
        if not isinstance(peft_type, str) or not peft_type:
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, f"{CONFIG_FILE} names no peft_type")
        values = {key: value for key, value in content.items() if value is not None}
        for key in _NUMBERS & values.keys():
            values[key] = _number(key, values[key])
        for key in _NUMBERS_BY_PATTERN:
            if key in values:
                values[key] = _numbers(key, values[key])
        for key in _MODULES & values.keys():
            _check_modules(key, values[key])
        # Some tools write the Python name of the enum member.
        return cls(printable(peft_type.upper().removeprefix("PEFTTYPE.")), values)

    @property
    def rank(self) -> int | None:
        """The rank r of a low-rank adapter."""
        rank = self.values.get("r")
        return rank if type(rank) is int and 0 < rank < _MOST else None

    @property
    def alpha(self) -> float | None:
        """The numerator of a low-rank adapter's scaling."""
        alpha = self.values.get("lora_alpha", self.values.get("alpha"))
        if isinstance(alpha, bool) or not isinstance(alpha, int | float):
            return None
        return float(alpha) if abs(alpha) < _MOST else None

    @cached_property
    def likeness(self) -> str:
        """Equal for configs that differ only in `OWN_SETTINGS`, and in the order of names.

        Of the version of PEFT that saved it only counts whether it is later than the installed one:
        that decides whether unknown settings are refused.
        """
        said = sorted(self.values.keys() - OWN_SETTINGS)
        # The order of a rank_pattern stays: of several that match, PEFT takes the first.
        values = [(name, _sorted(self.values[name])) for name in said]
        return json.dumps([self.peft_type, self._is_of_later_peft(), values], default=repr)

    def known_values(self, known: frozenset[str]) -> dict[str, Any]:
        """The values that the installed PEFT knows, if the others cannot change the result.

        PEFT itself drops keys that it does not know (`PeftConfigMixin.from_peft_type`). Trainers
        add their own keys, and old versions of PEFT had some that are gone: what those change shows
        in the tensors, each of which must have a place. Only a setting of a later PEFT may change
        the arithmetic without changing any tensor, as use_rslora did.

        Args:
            known: the keys accepted by the installed PEFT's class for this type.

        Raises:
            AdapterError: unsupported_adapter, naming the key: a later PEFT saved the config.
        """
        unknown = {
            key: value
            for key, value in self.values.items()
            if key not in known | _NO_EFFECT and value not in (False, "", [], {})
        }
        if unknown and self._is_of_later_peft():
            key, value = next(iter(unknown.items()))
            raise AdapterError(
                Reason.UNSUPPORTED_ADAPTER,
                f"{CONFIG_FILE} sets {key}={value!r:.80}, which peft {version('peft')} does not "
                f"know; peft {self.values['peft_version']!s:.40} saved it, so it may change what "
                "is computed: install that version, and try again",
            )
        if unknown:
            logger.info("%s: ignored keys that peft does not know: %s", CONFIG_FILE, list(unknown))
        return {key: value for key, value in self.values.items() if key in known}

    def _is_of_later_peft(self) -> bool:
        """Whether a later PEFT than the installed one saved it; versions before 0.15 do not say."""
        try:
            saved = Version(str(self.values.get("peft_version", "0")).partition("@")[0])
        except InvalidVersion:
            return True
        return saved.release > Version(version("peft")).release


def _sorted(value: Any) -> Any:
    """A list of names in one order: PEFT saves sets."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return sorted(value)
    return value


def _number(key: str, value: Any) -> Any:
    """A number setting, even if it was written as a string.

    Raises:
        AdapterError: corrupt: it is something else.
    """
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise AdapterError(Reason.CORRUPT, f"{CONFIG_FILE}: {key} is {value!r:.40}, not a number")
    return value if not isinstance(value, str) else int(number) if number.is_integer() else number


def _numbers(key: str, value: Any) -> Any:
    """A setting that maps modules to numbers, even if these were written as strings.

    AdaLoRA's rank_pattern has lists of flags instead of numbers.

    Raises:
        AdapterError: corrupt: one of them is something else.
    """
    if not value:
        return value
    if not isinstance(value, dict):
        raise AdapterError(
            Reason.CORRUPT,
            f"{CONFIG_FILE}: {key} is {value!r:.40}, not an object that maps modules to numbers",
        )
    return {
        pattern: number if isinstance(number, list) else _number(f"{key} {pattern:.60}", number)
        for pattern, number in value.items()
    }


def _check_modules(key: str, value: Any) -> None:
    """Reject a value that does not name modules.

    Raises:
        AdapterError: corrupt: neither a pattern nor a list of names.
    """
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise AdapterError(
            Reason.CORRUPT,
            f"{CONFIG_FILE}: {key} is {value!r:.40}, neither a pattern nor a list of names",
        )
