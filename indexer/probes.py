"""Probe sets: the fixed prompts whose hidden states are compared."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from hubdelta.schemas.errors import UsageError


@dataclass(frozen=True)
class ProbeSet:
    """An ordered list of prompts with a name.

    Attributes:
        name: a name for people.
        prompts: the probes, in order.
    """

    name: str
    prompts: tuple[str, ...]

    @property
    def id(self) -> str:
        """Hash of the prompts: 16 hex digits, always and everywhere the same."""
        return sha256(json.dumps(self.prompts).encode()).hexdigest()[:16]

    @classmethod
    def from_file(cls, file: Path) -> "ProbeSet":
        """The prompts of a file, named after it, without the extension.

        The file is UTF-8 text in JSON, so that prompts may contain newlines: one list of strings,
        or JSON Lines, of which each line is a string or an object with the key `prompt`. Blank
        lines are skipped.

        Raises:
            UsageError: the file cannot be read, holds something else, or has no prompt.
        """
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the probes in {file} cannot be read: {error}") from error
        prompts = tuple(_prompt(value, where) for where, value in _values(text, file))
        if not prompts:
            raise UsageError(f"{file} holds no probe")
        return cls(file.stem, prompts)


def _values(text: str, file: Path) -> list[tuple[str, Any]]:
    """What a file of probes holds, each value with the place that an error names."""
    if text.lstrip().startswith("["):
        listed = _parsed(text, str(file))
        return [(f"probe {number} in {file}", value) for number, value in enumerate(listed, 1)]
    # Not splitlines(): a string in JSON may contain other characters that end a line.
    lines = enumerate(text.split("\n"), 1)
    places = [(f"{file}, line {number}", line) for number, line in lines if line.strip()]
    return [(where, _parsed(line, where)) for where, line in places]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{where} is not JSON: give a list of strings, or one string a line ({error})"
        ) from error


def _prompt(value: Any, where: str) -> str:
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise UsageError(f"{where} is neither a string nor an object with a string as `prompt`")
    if not prompt:
        raise UsageError(f"{where} is an empty probe")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where} is not valid Unicode: {error.reason}") from error
    return prompt


_INPUT = "\n\n### Instruction:\nPlease provide a response. Input:Input.\n\n### Response:"

ALPACA_5 = ProbeSet(
    "alpaca-5",
    tuple(
        lead + _INPUT
        for lead in (
            "Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.",
            "The task described below requires a response that completes the request accurately.",
            "Below is a description of a task. "
            "Provide a response that aligns with the requirements.",
            "The following instruction outlines a task. "
            "Generate a response that meets the specified request.",
            "You are given an instruction and input. "
            "Write a response that completes the task as requested.",
        )
    ),
)
"""The probe set of the paper (arXiv 2509.04442): five paraphrases of the Alpaca template."""
