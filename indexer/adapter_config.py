"""Reading adapter_config.json for what it says, whichever PEFT version wrote it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdelta.schemas.errors import AdapterError, Reason, printable

CONFIG_FILE = "adapter_config.json"
LONGEST_CONFIG = 1 << 20  # bytes; real ones have a few thousand

_MOST = 2**31  # beyond any rank or alpha, and what a column holds

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


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter_config.json says.

    Attributes:
        peft_type: LORA, IA3, ..., upper case.
        values: every key as written, nulls left out (a null means PEFT's default).
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
        if not isinstance(peft_type, str) or not peft_type:
            raise AdapterError(Reason.UNSUPPORTED_ADAPTER, f"{CONFIG_FILE} names no peft_type")
        values = {key: value for key, value in content.items() if value is not None}
        return cls(printable(peft_type.upper()), values)

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

    def reject_unknown(self, known: frozenset[str]) -> dict[str, Any]:
        """The values that PEFT here knows, if the others cannot change what is computed.

        A key that this PEFT does not know is ignored where it is switched off (false, empty)
        or has no effect on the forward pass; otherwise the vector would silently be another.

        Args:
            known: the keys that the installed PEFT's class for this type takes.

        Raises:
            AdapterError: unsupported_adapter, naming the key.
        """
        for key, value in self.values.items():
            if key not in known and key not in _NO_EFFECT and value not in (False, "", [], {}):
                raise AdapterError(
                    Reason.UNSUPPORTED_ADAPTER,
                    f"{CONFIG_FILE} sets {key}={value!r:.80}, which the installed peft does not "
                    "know: it may change what is computed, and a newer peft may know it",
                )
        return {key: value for key, value in self.values.items() if key in known}
