"""Bases of unusual build: each has an engine, and right answers from it."""

import json

import numpy as np
import peft
import pytest
import sentencepiece
import torch
from families import make_adapter, make_base

from hubdelta.indexer.engines.base_model import BaseModel, tokenized
from hubdelta.indexer.engines.reference import ReferenceEngine
from hubdelta.indexer.engines.routing import RoutedEngine, make_engine
from hubdelta.indexer.engines.stacked.engine import StackedEngine
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.probes import ALPACA_5
from hubdelta.indexer.settings import IndexSettings
from hubdelta.schemas.errors import AdapterError, HubdeltaError, Reason

GEMMA_3N = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 64,
    "laurel_rank": 4,
    "activation_sparsity_pattern": [0.0] * 4,
    "head_dim": 8,
}

UNUSUAL = {
    # bases → their sizes, and some of their linear layers
    "llama4_text": (
        {"head_dim": 8, "num_local_experts": 4, "intermediate_size_mlp": 64},  # no inner model
        ["q_proj", "v_proj"],
    ),
    "openai-gpt": ({}, ["c_attn", "c_fc"]),  # its layers return lists
    "opt": ({"ffn_dim": 64, "word_embed_proj_dim": 32}, ["q_proj", "fc1"]),  # skips its inner model
    "gemma3n_text": (GEMMA_3N, ["q_proj", "v_proj"]),  # four streams, hidden_states[-1] is not one
}

SOME_MODULES_LEFT_ALONE = {
    # bases with modules that have parameters and take several inputs: experts, gates, states
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "recurrent_gemma": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
}


@pytest.mark.parametrize("model_type", UNUSUAL)
def test_an_unusual_base_has_an_engine_and_right_answers(
    model_type, tmp_path, read_adapter, caplog
):
    sizes, targets = UNUSUAL[model_type]
    folder = make_base(tmp_path / "base", model_type=model_type, **sizes)
    base = BaseModel.load(folder, ALPACA_5)
    lora = read_adapter(make_adapter(tmp_path / "lora", folder, target_modules=targets))

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))

    ((_, answer),) = engine.answers([lora])
    ((_, expected),) = ReferenceEngine(base).answers([lora])
    np.testing.assert_allclose(answer.activations, expected.activations, rtol=1e-4, atol=1e-5)
    assert ("cannot be stacked" in caplog.text) == (answer.baseline.engine == "reference")


@pytest.mark.parametrize("model_type", ["opt", "gemma3n_text", "gpt_neox", "falcon_mamba"])
def test_the_activation_is_the_last_hidden_state_after_the_final_norm(model_type, tmp_path):
    sizes = UNUSUAL.get(model_type, ({},))[0]
    base = BaseModel.load(make_base(tmp_path, model_type=model_type, **sizes), ALPACA_5)
    with torch.no_grad():
        outputs = [base.model.base_model(input_ids=probe) for probe in base.probes]
    expected = np.stack([output.last_hidden_state[0, -1].numpy() for output in outputs])

    np.testing.assert_array_equal(ReferenceEngine(base).baseline.activations, expected)
    stacked = StackedEngine(base).baseline("fp32").activations
    np.testing.assert_allclose(stacked, expected, rtol=1e-4, atol=1e-5)


def test_the_cap_on_attention_logits_acts(tmp_path):
    """Torch's own attention, transformers' default, would leave it out."""
    folders = [
        make_base(tmp_path / str(cap), model_type="gemma2", head_dim=8, attn_logit_softcapping=cap)
        for cap in (1e-3, 1e3)
    ]
    capped, free = (
        ReferenceEngine(BaseModel.load(folder, ALPACA_5)).baseline.activations for folder in folders
    )
    assert np.linalg.norm(capped - free) > 0.01 * np.linalg.norm(free)
    for folder, expected in zip(folders, (capped, free), strict=True):
        base = BaseModel.load(folder, ALPACA_5)
        for engine in (StackedEngine(base), StreamedEngine(folder, base.probes)):
            found = (
                engine.baseline if isinstance(engine, StreamedEngine) else engine.baseline("fp32")
            )
            np.testing.assert_allclose(found.activations, expected, rtol=1e-4, atol=1e-5)


def test_a_base_that_answers_with_nan_has_the_reference_engine(tmp_path, caplog):
    base = BaseModel.load(make_base(tmp_path / "base"), ALPACA_5)
    base.model.get_submodule("model.norm").weight.data[3] = torch.nan

    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))

    assert isinstance(engine, ReferenceEngine)
    assert "cannot be stacked" in caplog.text


@pytest.mark.parametrize("model_type", SOME_MODULES_LEFT_ALONE)
def test_a_module_of_several_inputs_keeps_no_base_from_being_stacked(
    model_type, tmp_path, read_adapter
):
    sizes = SOME_MODULES_LEFT_ALONE[model_type]
    folder = make_base(tmp_path / "base", model_type=model_type, **sizes)
    base = BaseModel.load(folder, ALPACA_5)
    lora = read_adapter(
        make_adapter(tmp_path / "lora", folder, target_modules=SOME_LINEAR[model_type])
    )
    engine = make_engine(base, lambda: base, IndexSettings(device="cpu", precision="fp32"))

    assert isinstance(engine, RoutedEngine)
    ((_, answer),) = engine.answers([lora])
    ((_, expected),) = ReferenceEngine(base).answers([lora])
    assert answer.baseline.engine == "stacked"
    assert answer.signal > 100
    np.testing.assert_allclose(answer.activations, expected.activations, rtol=1e-4, atol=1e-5)


SOME_LINEAR = {
    "gpt_oss": ["q_proj", "o_proj"],
    "recurrent_gemma": ["gate_proj", "down_proj"],
    "mamba2": ["in_proj"],
}


@pytest.mark.parametrize("model_type", ["mamba", "mamba2", "rwkv", "recurrent_gemma", "qwen3_next"])
@pytest.mark.parametrize("method", [peft.PrefixTuningConfig, peft.CartridgeConfig])
def test_a_learned_prefix_is_refused_where_layers_carry_a_state(
    method, model_type, tmp_path, read_adapter
):
    """PEFT answers as if there were no prefix, or not at all."""
    sizes = SOME_MODULES_LEFT_ALONE.get(model_type, {})
    folder = make_base(tmp_path / "base", model_type=model_type, **sizes)
    llama = make_base(tmp_path / "llama")
    config = method(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapter = read_adapter(make_adapter(tmp_path / "adapter", llama, config=config))

    ((_, error),) = ReferenceEngine(BaseModel.load(folder, ALPACA_5)).answers([adapter])

    assert isinstance(error, AdapterError)
    assert error.reason is Reason.UNSUPPORTED_ADAPTER
    assert "layers of this base never read" in str(error)


def test_a_quantized_base_that_cannot_be_loaded_names_the_way_out(tmp_path):
    folder = make_base(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(HubdeltaError, match=r"quantized \(awq\).*name the model") as failure:
        BaseModel.load(folder, ALPACA_5)
    assert len(str(failure.value).splitlines()) == 1


def test_a_base_with_tokenizer_model_alone_is_tokenized_by_it(tmp_path):
    folder = make_base(tmp_path / "base")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    text = tmp_path / "text"
    text.write_text("\n".join(ALPACA_5.prompts) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=350,
        model_type="bpe",  # and the next three: as Llama's was made
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        byte_fallback=True,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')

    found = tokenized(folder, ALPACA_5)

    pieces = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    for ids, prompt in zip(found, ALPACA_5.prompts, strict=True):
        assert ids[0].tolist()[-9:] == pieces.encode(prompt)[-9:]


def test_a_learned_prefix_of_other_heads_than_the_cache_holds_is_unsupported(
    tmp_path, read_adapter
):
    """Falcon keeps keys and values of one head, and PEFT makes a prefix for all of them."""
    folder = make_base(tmp_path / "base", model_type="falcon")
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    adapter = read_adapter(make_adapter(tmp_path / "adapter", folder, config=config))
    lora = read_adapter(make_adapter(tmp_path / "lora", folder, target_modules=["query_key_value"]))
    engine = ReferenceEngine(BaseModel.load(folder, ALPACA_5))

    (_, error), (_, answer) = engine.answers([adapter, lora])

    assert error.reason is Reason.UNSUPPORTED_ADAPTER
    assert "the installed peft cannot run PREFIX_TUNING on this base" in str(error)
    assert answer.signal > 100
