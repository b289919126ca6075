"""Finetunes of tiny bases, all weights changed at random, and what transformers says of them."""

import json
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from families import files_of, load_model, saved_once
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.adapters.checkpoint import Checkpoint, open_local, weight_files
from hubdelta.indexer.engines.base_model import load_language_model
from hubdelta.indexer.engines.engine import Activations, Answer
from hubdelta.indexer.engines.hidden_states import hidden_states
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import AdapterError
from hubdelta.schemas.keys import AdapterKey

KEY = AdapterKey("org/finetune", "", "5" * 40)


def make_finetune(
    folder: Path,
    base: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard: str = "20KB",
    bare: bool = False,
) -> Path:
    """Change every weight of a base at random, and save it as transformers does.

    Args:
        folder: where to.
        base: a transformers folder.
        dtype: that the files hold.
        shard: size of the largest file.
        bare: save the model below the output layer, as by its own class.
    """
    key = "finetune", files_of(base), dtype, shard, bare
    return saved_once(folder, key, lambda: _make_finetune(folder, base, dtype, shard, bare))


def _make_finetune(folder: Path, base: Path, dtype: torch.dtype, shard: str, bare: bool) -> None:
    torch.manual_seed(1)
    model = load_model(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model = model.base_model if bare else model
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)


def rewrite(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    """Put all weights into one file, some of them changed or (None) taken out."""
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        tensors |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    for name, tensor in changes.items():
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def probes_of(base: Path) -> list[torch.Tensor]:
    return _probes_of(files_of(base), base)


@lru_cache(maxsize=32)
def _probes_of(_: Hashable, base: Path) -> list[torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    return [tokenizer(text, return_tensors="pt")["input_ids"] for text in ALPACA_5.prompts]


def expected(folder: Path, base: Path) -> Activations:
    """Transformers' own forward of the whole model, one probe after the other."""
    return _expected(files_of(folder), folder, files_of(base), base)


@lru_cache(maxsize=32)
def _expected(_: Hashable, folder: Path, __: Hashable, base: Path) -> Activations:
    return hidden_states(load_language_model(folder), probes_of(base))


def full(folder: Path, checkpoint: Checkpoint | None = None) -> FullFinetune:
    config = json.loads((folder / "config.json").read_bytes())
    return FullFinetune(KEY, config, checkpoint or open_local(weight_files(folder)), 0)


def embed(engine: StreamedEngine, finetune: FullFinetune) -> Answer:
    [(place, answer)] = engine.answers([finetune])
    assert place == 0
    if isinstance(answer, AdapterError):
        raise answer
    return answer


def distance(found: Activations, wanted: Activations) -> float:
    """L2 distance over the length of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
