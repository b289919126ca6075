"""Probe sets: the fixed prompts whose last hidden state is compared."""

import json
from dataclasses import dataclass
from hashlib import sha256


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
