"""The readout: which hidden states of a probe an engine returns."""

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class Readout:
    """Which hidden states of a probe become its activation.

    Attributes:
        pooling: last: the state of the last token. mean: the mean over the probe's tokens, with
            those that the tokenizer adds by default; learned prompts and padding do not count.
    """

    pooling: Pooling = "last"


PAPERS = Readout()
"""The readout of the paper (arXiv 2509.04442)."""
