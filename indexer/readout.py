"""The readout: which hidden states of a probe an engine returns."""

from dataclasses import dataclass, replace
from typing import Literal

from hubdelta.schemas.errors import UsageError

Pooling = Literal["last", "mean"]


@dataclass(frozen=True)
class Readout:
    """Which hidden states of a probe become its activation.

    Attributes:
        pooling: last: the state of the last token. mean: the mean over the probe's tokens, with
            those that the tokenizer adds by default; learned prompts and padding do not count.
        layer: after how many layers, as transformers counts its `hidden_states`: 0 for the
            embeddings; None for the last layer and the final norm.
    """

    pooling: Pooling = "last"
    layer: int | None = None

    def counted_from_the_start(self, layers: int) -> "Readout":
        """The same readout, whose layer may count from the end, in the form of this class.

        Args:
            layers: how many the base has; that one and -1 stand for the state after its norm.

        Raises:
            UsageError: it has no such layer.
        """
        if self.layer is None:
            return self
        if not -layers - 1 <= self.layer <= layers:
            raise UsageError(
                f"the base has no layer {self.layer}: 0 (its embeddings) to {layers} (its last), "
                f"or -1 (its last) to {-layers - 1}"
            )
        layer = self.layer % (layers + 1)
        return replace(self, layer=None if layer == layers else layer)


PAPERS = Readout()
"""The readout of the paper (arXiv 2509.04442)."""
