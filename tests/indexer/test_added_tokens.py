"""Adapters trained after tokens were added to the vocabulary (resize_token_embeddings)."""

import numpy as np
import peft
import pytest
import torch
from families import save_adapter
from safetensors.torch import load_file, save_file

from hubdelta.indexer.adapters.adapter_names import AdapterNames
from hubdelta.indexer.adapters.compatibility import check_fit
from hubdelta.indexer.engines.routing import make_engine
from hubdelta.indexer.settings import IndexSettings

ROWS = 8


@pytest.mark.parametrize("whole_table", [False, True])
@pytest.mark.parametrize("kind", ["low-rank", "tokens"])
def test_they_are_what_peft_makes_of_them_on_the_larger_vocabulary(
    kind, whole_table, tmp_path, base, read_adapter
):
    model = base.read_again()
    size = model.config.vocab_size
    model.resize_token_embeddings(size + ROWS, mean_resizing=False)
    settings = {
        "low-rank": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [3, size, size + 1]},
    }
    config = peft.LoraConfig(r=4, **settings[kind])
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    if not whole_table:
        keep_tensors(tmp_path / "adapter", lambda name: "base_layer" not in name)
    adapter = read_adapter(tmp_path / "adapter")
    shapes = {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}
    placement = AdapterNames(base).place(adapter.config, shapes)
    check_fit(placement.shapes(shapes), base.shapes)

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))
    ((_, answer),) = engine.answers([adapter])

    with torch.no_grad():
        model.eval()
        states = [model.model(probe)[0][0, -1] for probe in base.probes]
    np.testing.assert_allclose(
        answer.activations, torch.stack(states).numpy(), rtol=1e-4, atol=1e-5
    )


def keep_tensors(folder, keep):
    """Drop the other tensors of a file, as save_embedding_layers=False does."""
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if keep(name)}, file)


def test_the_reference_engine_leaves_their_rows_out(tmp_path, base, read_adapter):
    model = base.read_again()
    model.resize_token_embeddings(model.config.vocab_size + ROWS, mean_resizing=False)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"])
    save_adapter(tmp_path / "adapter", model, config, "org/base")
    engine = make_engine(base, lambda: base, IndexSettings(engine="reference", device="cpu"))

    ((_, answer),) = engine.answers([read_adapter(tmp_path / "adapter")])

    with torch.no_grad():
        model.eval()
        states = [model.model(probe)[0][0, -1] for probe in base.probes]
    np.testing.assert_allclose(
        answer.activations, torch.stack(states).numpy(), rtol=1e-4, atol=1e-5
    )
