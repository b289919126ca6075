"""Reading configs and weights as they come, without running anything."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hubdelta.indexer.adapter_config import AdapterConfig
from hubdelta.indexer.fit import adapted_modules, check_fit
from hubdelta.indexer.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason


def reason_of(function, *arguments) -> tuple[Reason, str]:
    with pytest.raises(AdapterError) as caught:
        function(*arguments)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_tensors_are_read_in_fp32_from_either_format(suffix, tmp_path):
    file = tmp_path / f"adapter_model{suffix}"
    tensors = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.arange(3)}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
    read = read_tensors([file])
    assert read["a"].dtype is torch.float32
    assert read["b"].tolist() == [0, 1, 2]


class Touch:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_with_code_is_refused_and_never_run(zipped, tmp_path):
    marker = tmp_path / "marker"
    payload = pickle.dumps({"a": Touch(marker)}, protocol=2)
    file = tmp_path / "adapter_model.bin"
    if zipped:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
            archive.writestr("archive/version", "3")
    else:
        file.write_bytes(payload)
    assert reason_of(read_tensors, [file])[0] is Reason.UNSAFE_FORMAT
    assert not marker.exists()


def test_a_pickle_that_holds_other_things_than_tensors_is_refused(tmp_path):
    file = tmp_path / "adapter_model.bin"
    torch.save({"epoch": 3}, file)
    assert reason_of(read_tensors, [file])[0] is Reason.UNSAFE_FORMAT


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("keep", [0, 5, 200])
def test_truncated_weights_are_corrupt(suffix, keep, tmp_path):
    file = tmp_path / f"adapter_model{suffix}"
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(500)}, buffer)
    save_file({"a": torch.ones(500)}, file)
    content = file.read_bytes() if suffix == ".safetensors" else buffer.getvalue()
    file.write_bytes(content[:keep])
    assert reason_of(read_tensors, [file])[0] is Reason.CORRUPT


def test_the_tensor_that_is_not_finite_is_named(tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    save_file({"fine": torch.ones(2), "broken": torch.tensor([1.0, float("nan")])}, file)
    reason, message = reason_of(read_tensors, [file])
    assert reason is Reason.NOT_FINITE
    assert "broken" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.CORRUPT),
        ("[1]", Reason.CORRUPT),
        ("{", Reason.CORRUPT),
        ("{}", Reason.UNSUPPORTED_ADAPTER),
        ('{"peft_type": 3}', Reason.UNSUPPORTED_ADAPTER),
    ],
)
def test_a_config_that_says_nothing_is_refused(text, reason, tmp_path):
    file = tmp_path / "adapter_config.json"
    file.write_text(text)
    assert reason_of(AdapterConfig.read, file)[0] is reason


def test_a_config_is_read_for_what_it_says(tmp_path):
    file = tmp_path / "adapter_config.json"
    file.write_text('{"peft_type": "lora", "r": 16, "lora_alpha": 32.0, "bias": null}')
    config = AdapterConfig.read(file)
    assert (config.peft_type, config.rank, config.alpha) == ("LORA", 16, 32.0)
    assert "bias" not in config.values


MODULES = {"model.layers.0.q_proj": (8, 4), "model.embed_tokens": (4, 100)}
A = "base_model.model.model.layers.0.q_proj.lora_A.weight"
B = "base_model.model.model.layers.0.q_proj.lora_B.weight"


def test_an_adapter_that_fits():
    embedding = "base_model.model.model.embed_tokens.lora_embedding_"
    tensors = {A: (2, 4), B: (8, 2), embedding + "A": (2, 100), embedding + "B": (4, 2)}
    check_fit(tensors, MODULES)
    assert adapted_modules(tensors) == ["embed_tokens", "q_proj"]


@pytest.mark.parametrize(
    ("tensors", "named"),
    [
        ({A: (2, 5), B: (8, 2)}, A),
        ({A: (2, 4), B: (9, 2)}, B),
        ({A: (2, 4), B: (8, 3)}, B),
        ({A: (2, 4, 1)}, A),
        ({"base_model.model.other.q_proj.lora_A.weight": (2, 4)}, "other"),
    ],
    ids=["inputs", "outputs", "rank", "dimensions", "names"],
)
def test_a_tensor_that_does_not_fit_is_named(tensors, named):
    reason, message = reason_of(check_fit, tensors, MODULES)
    assert reason is Reason.BASE_MISMATCH
    assert named in message


def test_a_file_without_tensors_has_no_weights():
    assert reason_of(check_fit, {}, MODULES)[0] is Reason.NO_WEIGHTS
