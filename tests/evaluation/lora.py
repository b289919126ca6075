"""Adapters of the tiny base read as an engine reads them, and their changes made in full."""

import json
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from hubdelta.evaluation.factors import FactorStore, read_factors
from hubdelta.indexer.adapters.adapter import PeftAdapter
from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.indexer.base_structure import BaseStructure
from hubdelta.schemas.keys import AdapterKey


def read(folder: Path) -> PeftAdapter:
    return PeftAdapter(
        AdapterKey(folder.as_posix(), "", "0" * 40),
        AdapterConfig.read(folder / "adapter_config.json"),
        read_tensors([folder / "adapter_model.safetensors"]),
        weight_bytes=0,
    )


def stored(folder: Path, base: Path, adapters: dict[str, Path], **settings: int) -> FactorStore:
    """A store of adapters' factors in a new folder."""
    folder.mkdir()
    store, structure = FactorStore(folder, **settings), BaseStructure.read(base)
    for name, adapter in adapters.items():
        store.add(name, read_factors(read(adapter), structure))
    return store


def factors(adapter: Path) -> dict[str, dict[str, np.ndarray]]:
    """A and B of each layer in fp64, read from the file alone."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        module, _, part = name.removesuffix(".weight").rpartition(".lora_")
        found.setdefault(module, {})[part] = tensor.double().numpy()
    return found


def changes(adapter: Path, modules: dict[str, tuple[int, int]]) -> np.ndarray:
    """ΔW = s·B·A of all modules in fp64, flattened; zeros where the adapter has none."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    own = factors(adapter)
    parts = []
    for module, shape in modules.items():
        change = np.zeros(shape)
        if module in own:
            rank = len(own[module]["A"])
            divisor = rank**0.5 if config.get("use_rslora") else rank
            alpha = next(
                (a for key, a in config["alpha_pattern"].items() if module.endswith(key)),
                config["lora_alpha"],
            )
            change = alpha / divisor * own[module]["B"] @ own[module]["A"]
        parts.append(change.ravel())
    return np.concatenate(parts)
