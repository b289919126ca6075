"""Adapters in memory, ready for an engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.checkpoint import Checkpoint
from hubdelta.schemas.keys import AdapterKey


@dataclass(frozen=True)
class PeftAdapter:
    """A PEFT adapter, read and checked, ready for an engine.

    Attributes:
        key: which adapter.
        config: its adapter_config.json.
        tensors: its weights by saved name, floats in fp32, fp16 or bf16 as stored, all finite, on
            the CPU; without those of the output layer.
        weight_bytes: size of its weight files.
        card: text of its model card, if it has one.
        files: hashes of what it was read from, as `VectorRow.files`.
    """

    key: AdapterKey
    config: AdapterConfig
    tensors: Mapping[str, torch.Tensor]
    weight_bytes: int
    card: str | None = None
    files: dict[str, str] | None = None


@dataclass(frozen=True)
class FullFinetune:
    """A finetune that comes as a whole model.

    Attributes:
        key: which finetune.
        config: its config.json.
        checkpoint: its weights, wherever they are.
        weight_bytes: size of its weight files.
        card: text of its model card, if it has one.
        files: hashes of what it was read from, as `VectorRow.files`.
    """

    key: AdapterKey
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    weight_bytes: int
    card: str | None = None
    files: dict[str, str] | None = None


Adapter = PeftAdapter | FullFinetune
