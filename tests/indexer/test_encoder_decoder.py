"""Encoder-decoder bases: the state at which the decoder starts, for every engine and adapter."""

import copy
import json
import math

import numpy as np
import peft
import pytest
import torch
from families import family, load_model, make_adapter, make_base
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hubdelta.indexer.engines.base_model import BaseModel
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.schemas.errors import HubdeltaError, Reason

SEQ_2_SEQ = "SEQ_2_SEQ_LM"

_OTHER_SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
}
OTHER_ARCHITECTURES = {
    "pegasus": _OTHER_SIZES,
    "marian": _OTHER_SIZES | {"pad_token_id": 1, "decoder_start_token_id": 1},
    "mbart": _OTHER_SIZES | {"decoder_start_token_id": 2},
    "umt5": {"d_kv": 8, "d_ff": 64, "decoder_start_token_id": 0, "num_decoder_layers": 2},
}


@pytest.fixture(scope="module", params=["t5", "mt5", "bart"])
def architecture(request):
    return family(request.param)


@pytest.fixture(scope="module")
def folder(architecture, tmp_path_factory):
    place = tmp_path_factory.mktemp("base") / str(architecture)
    return make_base(place, model_type=architecture.model_type, **architecture.config)


@pytest.fixture(scope="module")
def base(folder):
    return BaseModel.load(folder, ALPACA_5)


@pytest.fixture(scope="module")
def reference(base):
    return ReferenceEngine(base)


@torch.inference_mode()
def states_that_begin_an_answer(model, folder):
    """The decoder's last state from which `generate` makes an answer's first token, by probe."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for prompt in ALPACA_5.prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert ids[0, -1] == tokenizer.eos_token_id
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=1,
            do_sample=False,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        (state,) = made.decoder_hidden_states[0][-1][0]
        rows.append(state.numpy())
    return np.stack(rows)


def merged_by_hand(model, adapter):
    """Add an adapter's products to a model's weights: W + s·B·A."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    rank = config["r"]
    scale = config["lora_alpha"] / (math.sqrt(rank) if config["use_rslora"] else rank)
    weights = dict(model.named_parameters())
    names = [name for name in tensors if name.endswith(".lora_A.weight")]
    assert names
    with torch.no_grad():
        for name in names:
            weight = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
            weights[weight] += scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
    return model


@pytest.fixture(scope="module")
def adapters(architecture, folder, tmp_path_factory):
    """Folders of two adapters."""
    settings = {"target_modules": list(architecture.linear), "task_type": SEQ_2_SEQ}
    place = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(place / "a", folder, **settings),
        make_adapter(place / "b", folder, seed=1, r=2, use_rslora=True, **settings),
    ]


@pytest.fixture(scope="module")
def expected_states(folder, adapters):
    """The states with which the base, and it with each of the adapters, begins an answer."""
    models = [load_model(folder), *(merged_by_hand(load_model(folder), a) for a in adapters)]
    return [states_that_begin_an_answer(model, folder) for model in models]


@pytest.mark.parametrize("make_engine", [ReferenceEngine, StackedEngine])
def test_the_vector_is_the_difference_of_what_begins_an_answer(
    make_engine, base, adapters, expected_states, read_adapter
):
    answers = dict(make_engine(base).answers([read_adapter(adapter) for adapter in adapters]))

    alone, *changed = expected_states
    for place, expected in enumerate(changed):
        np.testing.assert_allclose(answers[place].activations, expected, rtol=1e-4, atol=1e-4)
        delta = (expected - alone).mean(axis=0)
        off = np.linalg.norm(answers[place].delta - delta) / np.linalg.norm(delta)
        assert off < 1e-5


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True` and a tied layer")
@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(target_modules="all-linear", task_type="FEATURE_EXTRACTION"),
        peft.LoraConfig(target_modules="all-linear", task_type="SEQ_CLS"),
        peft.IA3Config(task_type=SEQ_2_SEQ),
        peft.LoraConfig(target_modules=["embed_tokens"], task_type=SEQ_2_SEQ),
        peft.LoraConfig(target_modules=["shared"], task_type=SEQ_2_SEQ),
        peft.AdaLoraConfig(total_step=10, task_type=SEQ_2_SEQ),
        peft.PromptTuningConfig(num_virtual_tokens=4, task_type=SEQ_2_SEQ),
        peft.PromptEncoderConfig(num_virtual_tokens=4, task_type=SEQ_2_SEQ),
        peft.PrefixTuningConfig(num_virtual_tokens=4, task_type=SEQ_2_SEQ),
    ],
    ids=lambda config: f"{config.peft_type} {config.task_type}",
)
def test_other_tasks_and_types_answer_as_peft_does(
    config, base, reference, folder, tmp_path, read_adapter
):
    adapter = make_adapter(tmp_path, folder, config=copy.deepcopy(config))

    ((_, answer),) = reference.answers([read_adapter(adapter)])

    model = peft.PeftModel.from_pretrained(load_model(folder), adapter).eval()
    start = torch.tensor([[base.decoder_start]])
    with torch.inference_mode():
        for probe, row in zip(base.probes, answer.activations, strict=True):
            output = model(
                input_ids=probe,
                attention_mask=torch.ones_like(probe),
                decoder_input_ids=start,
                output_hidden_states=True,
            )
            expected = output.decoder_hidden_states[-1][0, -1]
            np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


def refused(folder, base, config, read_adapter):
    adapter = read_adapter(make_adapter(folder, base, config=config))
    ((_, error),) = ReferenceEngine(BaseModel.load(base, ALPACA_5)).answers([adapter])
    assert error.reason is Reason.UNSUPPORTED_ADAPTER
    return str(error)


def test_a_prompt_type_of_decoders_alone_is_unsupported(folder, tmp_path, read_adapter):
    settings = {"cpt_token_ids": [1, 2], "cpt_mask": [1, 1], "cpt_tokens_type_mask": [1, 2]}
    config = peft.CPTConfig(task_type="CAUSAL_LM", **settings)
    assert "CAUSAL_LM" in refused(tmp_path, folder, config, read_adapter)


def test_a_prefix_that_peft_cannot_run_is_unsupported(tmp_path, read_adapter):
    """PEFT takes it that a decoder has as many layers as its encoder."""
    sizes = dict(family("t5").config) | {"num_decoder_layers": 3}
    uneven = make_base(tmp_path / "base", model_type="t5", **sizes)
    config = peft.PrefixTuningConfig(num_virtual_tokens=4, task_type=SEQ_2_SEQ)
    assert "PREFIX_TUNING" in refused(tmp_path / "adapter", uneven, config, read_adapter)


@pytest.mark.parametrize("model_type", OTHER_ARCHITECTURES)
def test_other_architectures_are_stacked(model_type, tmp_path, read_adapter):
    folder = make_base(tmp_path / "base", model_type=model_type, **OTHER_ARCHITECTURES[model_type])
    lora = {"target_modules": "all-linear", "task_type": SEQ_2_SEQ}
    adapter = read_adapter(make_adapter(tmp_path / "adapter", folder, **lora))
    base = BaseModel.load(folder, ALPACA_5)
    engine = StackedEngine(base)

    assert engine.can_embed(adapter)
    ((_, answer),) = engine.answers([adapter])
    ((_, expected),) = ReferenceEngine(base).answers([adapter])
    off = np.linalg.norm(answer.delta - expected.delta) / np.linalg.norm(expected.delta)
    assert off < 1e-5


def test_all_that_the_encoder_reads_counts(base):
    """No token of a probe may be left out on the way, not in the last layer of the encoder."""
    flops = StackedEngine(base).model.dense_flops
    tokens = sum(probe.shape[1] for probe in base.probes)
    shapes = {
        name: out_features * in_features
        for name, (out_features, in_features) in base.shapes.items()
        if isinstance(base.model.get_submodule(name), torch.nn.Linear)
        and not base.is_unreached(name)
    }
    of_encoder = {name: size for name, size in shapes.items() if "encoder." in name}
    assert flops > 2 * tokens * sum(of_encoder.values())
    assert flops < 2 * tokens * sum(shapes.values())


def test_a_base_that_names_no_start_is_refused(tmp_path):
    folder = make_base(tmp_path, model_type="t5", d_kv=8, d_ff=64)
    base = BaseModel.load(folder, ALPACA_5)
    with pytest.raises(HubdeltaError, match="decoder_start_token_id"):
        ReferenceEngine(base)
