"""Which files of a repository are adapters."""

import pytest

from hubdelta.crawler.adapter_files import adapters_in, has_model_weights, model_weights

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
            {
                "": [
                    "adapter_model-00001-of-00002.safetensors",
                    "adapter_model-00002-of-00002.safetensors",
                ]
            },
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


def test_gguf_alone_is_nothing_to_train_an_adapter_on() -> None:
    assert has_model_weights(["model.safetensors"])
    assert has_model_weights(["gptq_model-4bit-128g.safetensors"])
    assert not has_model_weights(["model.q4.gguf", "training_args.bin", "x/model.safetensors"])
