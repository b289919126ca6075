"""Llamas of any depth, written to disk without ever being in memory."""

import json
from pathlib import Path

import torch
from transformers import LlamaConfig

from hubdelta.crawler.safetensors_header import Tensor, header_of

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}

HIDDEN, INTERMEDIATE, VOCABULARY = 512, 1376, 32_000
LAYER_PARAMETERS = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * INTERMEDIATE + 2 * HIDDEN


def write_llama(folder: Path, layers: int, dtype: torch.dtype) -> Path:
    """A Llama with tied embeddings; 12.7 MB a layer in fp32.

    Its weights are random, and those of one shape the same in all layers.
    """
    folder.mkdir(parents=True)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        own = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{own}.self_attn.{name}.weight"] = (HIDDEN, HIDDEN)
        for name in ("gate_proj", "up_proj"):
            shapes[f"{own}.mlp.{name}.weight"] = (INTERMEDIATE, HIDDEN)
        shapes[f"{own}.mlp.down_proj.weight"] = (HIDDEN, INTERMEDIATE)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{own}.{name}.weight"] = (HIDDEN,)
    shapes["model.norm.weight"] = (HIDDEN,)
    sizes = {name: torch.Size(shape).numel() * dtype.itemsize for name, shape in shapes.items()}
    tensors = {
        name: Tensor(_DTYPES[dtype], shape, 0, sizes[name]) for name, shape in shapes.items()
    }
    torch.manual_seed(0)
    contents = {
        shape: (torch.randn(shape) * 0.05).to(dtype).view(torch.uint8).numpy()
        for shape in dict.fromkeys(shapes.values())
    }
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header_of(tensors, {"format": "pt"}))
        for shape in shapes.values():
            file.write(contents[shape].data)
    return folder
