"""What an engine is: a base, a batch of adapters and a probe set in, activations out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from hubdelta.indexer.adapter_config import AdapterConfig
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterKey

Activations = npt.NDArray[np.float32]
"""Hidden states [probes, hidden] of each probe's last token, after the final norm, fp32."""


@dataclass(frozen=True)
class PeftAdapter:
    """A PEFT adapter, read and checked, ready for an engine.

    Attributes:
        key: which adapter.
        config: its adapter_config.json.
        tensors: its weights by name as saved, floats in fp32, all finite, on the CPU.
        weight_bytes: size of its weight files.
    """

    key: AdapterKey
    config: AdapterConfig
    tensors: dict[str, torch.Tensor]
    weight_bytes: int


@dataclass(frozen=True)
class FullFinetune:
    """A finetune that comes as a whole model.

    Attributes:
        key: which finetune.
        folder: an ordinary transformers folder on disk.
        weight_bytes: size of its weight files.
    """

    key: AdapterKey
    folder: Path
    weight_bytes: int


Adapter = PeftAdapter | FullFinetune


def unexpected(error: Exception) -> AdapterError:
    """The failure of an adapter that met an error nobody foresaw; it must not end a night's run."""
    text = " ".join(str(error).split())[:300]
    return AdapterError(Reason.ENGINE, f"{type(error).__name__}: {text}")


class Engine(Protocol):
    """Runs the probes through a base and through adapters of it.

    An engine is made for one base and one probe set, which it holds ready. It must answer the
    same for an adapter whatever shares its batch and whatever came before.

    Attributes:
        name: goes into each vector's row.
        precision: fp32, ...; goes into each vector's row.
    """

    name: str
    precision: str

    def base_activations(self) -> Activations:
        """The base's own activations, [probes, hidden]."""

    def noise_floor(self) -> float:
        """Largest L2 norm of a delta that arithmetic alone makes here: the base against itself."""

    def can_embed(self, adapter: Adapter) -> bool:
        """Whether this engine computes such an adapter exactly."""

    def activations(self, adapters: Sequence[Adapter]) -> Iterator[Activations | AdapterError]:
        """One answer for each adapter, in their order, each as soon as it is known.

        Returns:
            Activations [probes, hidden], or the error that this adapter alone met.
        """
