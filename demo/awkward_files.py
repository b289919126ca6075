"""Files of awkward repositories: adapters in unusual places, and weights broken in many ways."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hubdelta.demo.repository import Build

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

COMMITTED = Path(__file__).parent / "hub"
"""The adapters that demo/train.py made: `<org>/<name>/…`."""

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MARKER = "PICKLE-WAS-RUN"
"""The folder that the hostile pickle creates in the working directory when it runs."""


def sound(source: str, *, base: str | None = None, weights: bool = True) -> Build:
    """A committed adapter, unchanged except perhaps for the base in its config."""

    def build(folder: Path) -> None:
        _write_config(source, folder, base)
        if weights:
            shutil.copyfile(COMMITTED / source / WEIGHTS, folder / WEIGHTS)

    return build


def in_folders(**builds: Build) -> Build:
    """An adapter in each of the named subfolders, and none at the root."""

    def build(folder: Path) -> None:
        for name, fill in builds.items():
            (folder / name).mkdir()
            fill(folder / name)

    return build


def and_files(first: Build, *names: str) -> Build:
    """A build with additional small text files of these names."""

    def build(folder: Path) -> None:
        first(folder)
        for name in names:
            (folder / name).write_text("Only the name of this file matters.\n", encoding="utf-8")

    return build


def in_pickle(source: str) -> Build:
    """A committed adapter as PEFT used to save them: harmless, but a pickle."""

    def build(folder: Path) -> None:
        import torch

        _write_config(source, folder)
        torch.save(_tensors(source), folder / "adapter_model.bin")

    return build


def hostile_pickle(source: str) -> Build:
    """A pickle that creates a folder when loaded, standing in for an attacker's code."""

    def build(folder: Path) -> None:
        import torch

        class Hostile:
            def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
                return os.mkdir, (MARKER,)

        _write_config(source, folder)
        torch.save({"lora_A": Hostile()}, folder / "adapter_model.bin")

    return build


def truncated(source: str) -> Build:
    """The first half of the weights, as left by an interrupted upload."""

    def build(folder: Path) -> None:
        _write_config(source, folder)
        whole = (COMMITTED / source / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])

    return build


def not_finite(source: str) -> Build:
    """One NaN among the weights, as left by a diverged training run."""

    def build(folder: Path) -> None:
        tensors = _tensors(source)
        next(iter(tensors.values()))[0, 0] = float("nan")
        _write_config(source, folder)
        _save(tensors, folder)

    return build


def untrained(source: str) -> Build:
    """Every B is zero, as LoRA is initialized: it changes nothing."""

    def build(folder: Path) -> None:
        tensors = _tensors(source)
        for name, tensor in tensors.items():
            if "lora_B" in name:
                tensor.zero_()
        _write_config(source, folder)
        _save(tensors, folder)

    return build


def of_other_shape(source: str, hidden: int, layers: int, *, base: str | None = None) -> Build:
    """The query projections of a model of another size, whatever the config says."""

    def build(folder: Path) -> None:
        import torch

        _write_config(source, folder, base)
        chance = torch.Generator().manual_seed(0)
        _save(
            {
                f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{factor}.weight": (
                    torch.randn(shape, generator=chance).mul(0.02).to(torch.bfloat16)
                )
                for layer in range(layers)
                for factor, shape in (("A", (4, hidden)), ("B", (hidden, 4)))
            },
            folder,
        )

    return build


def quantized_mirror(folder: Path) -> None:
    """What a crawler sees of a 4-bit copy of the base: its config and a file of weights."""
    import torch

    quantization = {"load_in_4bit": True, "quant_method": "bitsandbytes"}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "model_type": "llama",
        "num_hidden_layers": 30,
        "quantization_config": quantization,
        "vocab_size": 49152,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _save({"model.norm.weight": torch.ones(576, dtype=torch.bfloat16)}, folder, "model.safetensors")


def nothing(_: Path) -> None:
    """No file besides the card."""


def _tensors(source: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(sorted(load_file(COMMITTED / source / WEIGHTS).items()))


def _save(tensors: dict[str, torch.Tensor], folder: Path, name: str = WEIGHTS) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / name, metadata={"format": "pt"})


def _write_config(source: str, folder: Path, base: str | None = None) -> None:
    config = json.loads((COMMITTED / source / CONFIG).read_text(encoding="utf-8"))
    if base is not None:
        config["base_model_name_or_path"] = base
    (folder / CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
