"""Inner products of adapters in the space of promoted tokens: the changes of all tokens' logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hubdelta.evaluation.members import Member
from hubdelta.indexer.engines.unembedding import Unembedding


@dataclass(frozen=True)
class Vectors:
    """Vectors of the index.

    Attributes:
        deltas: by adapter, float64 [hidden].
        base_states: the base's own hidden states, fp32 [probes, hidden].
    """

    deltas: Mapping[str, NDArray[np.float64]]
    base_states: NDArray[np.float32]

    def products(
        self, base_folder: Path, new: Sequence[Member], others: Sequence[Member]
    ) -> tuple[NDArray[np.float64], int]:
        """Inner products [new, others], and how many tokens have a logit.

        Args:
            base_folder: a transformers folder of the base, with its weights.
            new: adapters, as rows.
            others: adapters, as columns.

        Raises:
            HubdeltaError: the base's output layer cannot be read.
        """
        layer = Unembedding(base_folder)
        states = torch.from_numpy(self.base_states)
        products: NDArray[np.float64] = layer.products(
            self._of(new), self._of(others), states
        ).numpy()
        return products, layer.vocabulary

    def _of(self, members: Sequence[Member]) -> torch.Tensor:
        rows = [self.deltas[member.name] for member in members]
        return torch.from_numpy(np.asarray(rows, np.float32))
