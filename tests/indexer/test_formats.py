"""Reading configs and weights as they come, without running anything."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hubdelta.indexer.adapters.adapter_config import AdapterConfig
from hubdelta.indexer.adapters.compatibility import adapted_modules, check_fit
from hubdelta.indexer.adapters.weights import read_tensors
from hubdelta.schemas.errors import AdapterError, Reason


def reason_of(function, *arguments) -> tuple[Reason, str]:
    with pytest.raises(AdapterError) as caught:
        function(*arguments)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float8_e5m2, torch.float32),
        (torch.int8, torch.int8),
        (torch.int64, torch.int64),
    ],
)
def test_tensors_keep_the_type_that_they_are_stored_in(suffix, stored, read, tmp_path):
    file = tmp_path / f"adapter_model{suffix}"
    tensors = {"a": torch.tensor([1, -2, 3]).to(stored), "empty": torch.ones(0, 4).to(stored)}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
    found = read_tensors([file])
    assert found["a"].dtype is read
    assert found["a"].tolist() == [1, -2, 3]
    assert found["empty"].shape == (0, 4)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_only_the_tensors_wanted_are_read_and_checked(suffix, tmp_path):
    file = tmp_path / f"adapter_model{suffix}"
    tensors = {"wanted": torch.ones(2), "other": torch.tensor([float("nan")])}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
    assert set(read_tensors([file], lambda name: name == "wanted")) == {"wanted"}


def test_tensors_outlive_the_file_that_they_were_read_from(tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    save_file({"a": torch.arange(100_000.0)}, file)
    read = read_tensors([file])
    file.unlink()
    assert torch.equal(read["a"], torch.arange(100_000.0))


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_the_tensor_that_is_not_finite_is_named(value, dtype, tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    broken = torch.zeros(37, 3)
    broken[20, 1] = value
    save_file({"fine": torch.ones(2), "broken": broken.to(dtype)}, file)
    reason, message = reason_of(read_tensors, [file])
    assert reason is Reason.NOT_FINITE
    assert "broken" in message


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("place", [0, 700, 1199])
def test_what_is_not_finite_is_found_wherever_it_is(place, transposed, tmp_path, monkeypatch):
    monkeypatch.setattr("hubdelta.indexer.adapters.weights._PIECE", 100)
    broken = torch.ones(30, 40)
    broken.view(-1)[place] = torch.nan
    torch.save({"broken": broken.T if transposed else broken}, tmp_path / "adapter_model.bin")

    assert reason_of(read_tensors, [tmp_path / "adapter_model.bin"])[0] is Reason.NOT_FINITE


def test_the_largest_numbers_are_finite(tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    most = {
        str(dtype): torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min]).to(dtype)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    save_file(most, file)

    assert read_tensors([file]).keys() == most.keys()


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


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('"r": "eight"', "r is 'eight', not a number"),
        ('"lora_alpha": "x"', "lora_alpha is 'x', not a number"),
        ('"lora_alpha": NaN', "lora_alpha is nan, not a number"),
        ('"lora_alpha": true', "lora_alpha is True, not a number"),
        ('"r": 1e400', "r is inf, not a number"),
        ('"alpha_pattern": {"q_proj": "x"}', "alpha_pattern q_proj is 'x', not a number"),
        ('"rank_pattern": {"q_proj": {}}', "rank_pattern q_proj is {}, not a number"),
        ('"alpha_pattern": ["q_proj"]', "alpha_pattern is ['q_proj'], not an object that maps"),
        ('"target_modules": 5', "target_modules is 5, neither a pattern nor a list of names"),
        ('"modules_to_save": [{}]', "modules_to_save is [{}], neither"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(setting, complaint):
    text = f'{{"peft_type": "LORA", {setting}}}'.encode()
    reason, message = reason_of(AdapterConfig.parse, text)
    assert reason is Reason.CORRUPT
    assert complaint in message


@pytest.mark.parametrize(("written", "r"), [('"8"', 8), ("8", 8), ("8.0", 8.0), ('"8.5"', 8.5)])
def test_a_number_in_quotes_is_a_number(written, r):
    config = AdapterConfig.parse(f'{{"peft_type": "LORA", "r": {written}}}'.encode())
    assert config.values["r"] == r


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_a_module_s_number_in_quotes_is_a_number(key):
    config = AdapterConfig.parse(f'{{"peft_type": "LORA", "{key}": {{"q_proj": "16"}}}}'.encode())
    assert config.values[key] == {"q_proj": 16}


def test_flags_of_ranks_stay_what_they_are():
    text = b'{"peft_type": "ADALORA", "rank_pattern": {"a.lora_E": [true, false]}}'
    assert AdapterConfig.parse(text).values["rank_pattern"] == {"a.lora_E": [True, False]}


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


LIKE = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"lora_alpha": 16}, True),
        ({"base_model_name_or_path": "org/other", "peft_version": "0.1"}, True),
        ({"target_modules": ["v_proj", "q_proj"]}, True),  # PEFT saves a set
        ({"revision": None}, True),  # a null says nothing
        ({"peft_version": "999.0"}, False),  # its unknown settings are refused
        ({"r": 8}, False),
        ({"use_rslora": True}, False),
        ({"target_modules": ["q_proj"]}, False),
        ({"peft_type": "IA3"}, False),
    ],
)
def test_configs_are_alike_if_they_say_the_same_of_tensors(change, alike):
    one = AdapterConfig.parse(json.dumps(LIKE).encode())
    other = AdapterConfig.parse(json.dumps(LIKE | change).encode())

    assert (one.likeness == other.likeness) is alike


def test_the_order_of_patterns_is_part_of_a_config():
    """Of several that match a module, PEFT takes the first."""
    orders = ['{"q": 2, "q_proj": 4}', '{"q_proj": 4, "q": 2}']
    first, second = (
        AdapterConfig.parse(f'{{"peft_type": "LORA", "rank_pattern": {it}}}'.encode())
        for it in orders
    )

    assert first.likeness != second.likeness
