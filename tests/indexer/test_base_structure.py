"""A base's structure comes out of config.json alone and says what the loaded base would say."""

import pytest
import torch
from families import family, make_base
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from hubdelta.indexer.base_structure import BaseStructure, without_weights
from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import HubdeltaError


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "t5", "bart"])
def test_without_weights_it_says_the_same(model_type, tmp_path):
    folder = make_base(tmp_path, model_type=model_type, **family(model_type).config)
    base = BaseModel.load(folder, ALPACA_5)
    for file in folder.iterdir():
        if file.name != "config.json":
            file.unlink()

    structure = BaseStructure.read(folder)

    assert {parameter.device.type for parameter in structure.model.parameters()} == {"meta"}
    for fact in ("shapes", "output_layer", "hidden_size", "model_type", "is_encoder_decoder"):
        assert getattr(structure, fact) == getattr(base, fact), fact
    assert structure.is_unreached("lm_head.weight")
    modules = [name for name, _ in base.model.named_modules()]
    assert [name for name, _ in structure.model.named_modules()] == modules


@pytest.mark.parametrize("config", ["{}", "not json", '{"model_type": "of-tomorrow"}'])
def test_what_is_no_language_model_is_one_clear_error(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(HubdeltaError, match="cannot be loaded"):
        BaseStructure.read(tmp_path)


class CpuAllocations(TorchDispatchMode):
    """What torch asks of the CPU's allocator, in bytes a tensor."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.empty.memory_format and made.device.type == "cpu":
            self.sizes.append(made.nbytes)
        return made


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "t5"])
def test_no_memory_for_weights_is_asked_of_the_allocator(model_type):
    sizes = {"hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8}
    config = AutoConfig.for_model(model_type, vocab_size=999, **sizes)
    with CpuAllocations() as allocations:
        model = without_weights(config)
    assert max(parameter.nbytes for parameter in model.parameters()) > 1 << 20
    assert max(allocations.sizes, default=0) < 256 << 10


def test_buffers_are_computed_in_memory_of_any_kind():
    config = AutoConfig.for_model("gpt2", n_positions=2048, n_layer=1, vocab_size=999)
    model = without_weights(config)
    wanted = AutoModelForCausalLM.from_config(config)
    for name, buffer in wanted.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
