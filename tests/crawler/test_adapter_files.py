"""Which files of a repository are adapters."""

import pytest

from hubdelta.crawler.adapter_files import (
    adapters_in,
    has_model_weights,
    model_weights,
    models_in,
    unreadable_format,
    unreadable_weights,
)

ROOT = ["adapter_config.json", "adapter_model.safetensors"]


def held(folder: str, *files: str) -> list[str]:
    return [f"{folder}/{file}" for file in (files or ROOT)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (ROOT, {"": ["adapter_model.safetensors"]}),
        (held("adapter"), {"adapter": ["adapter/adapter_model.safetensors"]}),
        (
            held("a") + held("b/c"),
            {
                "a": ["a/adapter_model.safetensors"],
                "b/c": ["b/c/adapter_model.safetensors"],
            },
        ),
        (["adapter_config.json", "adapter_model.bin"], {"": ["adapter_model.bin"]}),
        ([*ROOT, "adapter_model.bin"], {"": ["adapter_model.safetensors"]}),
        (["adapter_config.json"], {"": []}),
        (["adapter_model.bin"], {"": ["adapter_model.bin"]}),
        (
            [
                "adapter_model-00002-of-00002.safetensors",
                "adapter_model-00001-of-00002.safetensors",
                "adapter_model.safetensors.index.json",
            ],
            {"": ["adapter_model.safetensors.index.json"]},
        ),
        (
            [
                "adapter_config.json",
                "adapter_model-00002-of-00002.safetensors",
                "adapter_model-00001-of-00002.safetensors",
            ],
            {
                "": [
                    "adapter_model-00001-of-00002.safetensors",
                    "adapter_model-00002-of-00002.safetensors",
                ]
            },
        ),
        (["adapter_config.json", "adapters.safetensors"], {"": ["adapters.safetensors"]}),
        (["adapter_config.json", "config.json", "model.safetensors"], {}),
        (
            ["config.json", "model.safetensors", *held("lora")],
            {"lora": ["lora/adapter_model.safetensors"]},
        ),
        (["README.md", "model.safetensors", "my_adapter_model.bin"], {}),
    ],
)
def test_every_folder_with_an_adapter_is_one(
    files: list[str], expected: dict[str, list[str]]
) -> None:
    assert adapters_in(files) == expected


def test_checkpoints_are_left_out_beside_a_finished_adapter() -> None:
    files = held("adapter") + held("checkpoints/checkpoint-60") + held("checkpoint-9")
    assert list(adapters_in(files)) == ["adapter"]
    assert len(adapters_in(files, checkpoints=True)) == 3


def test_of_checkpoints_alone_the_last_of_each_training_counts() -> None:
    files = [
        path
        for run in ("a", "b")
        for step in (9, 60, 100)
        for path in held(f"{run}/checkpoint-{step}")
    ]
    assert list(adapters_in(files)) == ["a/checkpoint-100", "b/checkpoint-100"]


def test_a_checkpoint_with_weights_goes_before_a_finished_folder_without() -> None:
    assert list(adapters_in(["adapter_config.json", *held("checkpoint-3")])) == ["checkpoint-3"]


def test_weights_of_whole_models() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert model_weights([*shards, "pytorch_model.bin", "sub/model.safetensors"]) == shards
    assert model_weights(["pytorch_model.bin", "training_args.bin"]) == ["pytorch_model.bin"]
    assert model_weights(["model.gguf", "consolidated.00.pth"]) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["model.safetensors.index.json", "a-1-of-1.safetensors"],
            ["model.safetensors.index.json"],
        ),
        (["model.safetensors", "model.safetensors.index.json"], ["model.safetensors"]),
        (["pytorch_model.bin", "model.safetensors.index.json"], ["model.safetensors.index.json"]),
        (["pytorch_model.bin.index.json", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["model.safetensors-1-of-1.safetensors"], ["model.safetensors-1-of-1.safetensors"]),
        (["model.fp16.safetensors"], []),
    ],
)
def test_weights_are_looked_for_in_the_order_of_transformers(
    files: list[str], expected: list[str]
) -> None:
    assert model_weights(files) == expected


def model(folder: str) -> list[str]:
    return held(folder, "config.json", "model.safetensors")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (model("final"), ["final"]),
        (model("final") + model("checkpoint-500"), ["final"]),
        (
            model("checkpoints/checkpoint-500") + model("checkpoints/checkpoint-60"),
            ["checkpoints/checkpoint-500"],
        ),
        (["config.json", "model.safetensors", *model("checkpoint-500")], [""]),
        (held("final", "model.safetensors"), []),
    ],
)
def test_whole_models_in_folders(files: list[str], expected: list[str]) -> None:
    assert list(models_in(files)) == expected


def test_every_folder_with_a_model_can_be_asked_for() -> None:
    files = ["config.json", "model.safetensors", *model("checkpoint-5"), *model("checkpoint-60")]
    assert list(models_in(files, checkpoints=True)) == ["", "checkpoint-5", "checkpoint-60"]


def test_formats_that_nothing_here_reads_are_known() -> None:
    files = ["b.Q4_K_M.gguf", "a/adapters.npz", "optimizer.pt", "README.md", "model.safetensors"]
    assert unreadable_weights(files) == ["a/adapters.npz", "b.Q4_K_M.gguf"]


@pytest.mark.parametrize(
    ("file", "format"),
    [
        ("gptq_model-4bit-128g.safetensors", "quantized"),
        ("llama-7b-4bit-128g.pt", "quantized"),
        ("model-int8.bin", "quantized"),
        ("awq/model.safetensors", None),
        ("model-00004-of-00008.safetensors", None),
        ("model.ckpt", ".ckpt"),
    ],
)
def test_names_that_quantizers_give(file: str, format: str | None) -> None:
    assert unreadable_format(file) == format


def test_gguf_alone_is_nothing_to_train_an_adapter_on() -> None:
    assert has_model_weights(["model.safetensors"])
    assert has_model_weights(["gptq_model-4bit-128g.safetensors"])
    assert not has_model_weights(["model.q4.gguf", "training_args.bin", "x/model.safetensors"])
