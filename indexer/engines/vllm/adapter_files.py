"""An adapter as the files that vLLM reads, in an unambiguous form."""

import json
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file

from hubdelta.indexer.adapters.adapter_config import CONFIG_FILE
from hubdelta.indexer.adapters.compatibility import PREFIX
from hubdelta.indexer.engines.edits.edits import DenseEdit, Edit, Edits, LowRank, rank
from hubdelta.schemas.errors import AdapterError, Reason


def write_adapter(folder: Path, edits: Edits, dtype: torch.dtype) -> None:
    """Write low-rank factors with their scaling in B, and a config whose own scaling is 1.

    This resolves rsLoRA, rank_pattern and alpha_pattern, and rounding to the engine's dtype happens
    once, after multiplying by the scaling.

    Args:
        folder: the folder to create.
        edits: how the adapter changes each module.
        dtype: in which vLLM computes, and to which it would cast its input.

    Raises:
        AdapterError: engine: it is more than low-rank factors.
    """
    tensors: dict[str, torch.Tensor] = {}
    for module, edit in edits.items():
        factors = _factors(module, edit)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = factors.down.to(dtype).contiguous()
        scaled = factors.up.float() * factors.scale
        tensors[f"{PREFIX}{module}.lora_B.weight"] = scaled.to(dtype).contiguous()
    folder.mkdir()
    largest = rank(edits)
    config = {
        "peft_type": "LORA",
        "r": largest,
        "lora_alpha": largest,
        "target_modules": sorted({module.rpartition(".")[2] for module in edits}),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def _factors(module: str, edit: Edit) -> LowRank:
    if isinstance(edit, DenseEdit) and edit.low_rank is not None:
        others = (getattr(edit, part.name) for part in fields(edit) if part.name != "low_rank")
        if all(other is None for other in others):
            return edit.low_rank
    raise AdapterError(Reason.ENGINE, f"vLLM cannot apply all that it changes in {module}")
