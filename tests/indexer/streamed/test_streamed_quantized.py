"""Quantized whole models: the plain product where their format is stated, or refused by name."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from families import family, make_base
from finetunes import distance, embed, expected, full, make_finetune, probes_of, rewrite
from safetensors.torch import load_file

from hubdelta.indexer.adapters.quantization import (
    stated,
    stated_beside,
    with_statement_beside,
)
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.schemas.errors import AdapterError, Reason

CLOSE = 1e-5
FP8 = torch.float8_e4m3fn
Array = npt.NDArray[Any]
Tensors = dict[str, torch.Tensor]


def e4m3(numbers: torch.Tensor) -> Array:
    """What bytes of one sign, four exponent and three mantissa bits stand for."""
    byte = numbers.view(torch.uint8).numpy().astype(np.int64)
    exponent, mantissa = byte >> 3 & 15, byte & 7
    size = np.where(
        exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    )
    return np.where(byte >> 7, -size, size)


def spread(scale: Array, shape: tuple[int, ...], block: tuple[int, int]) -> Array:
    """The scale of each number of a matrix."""
    rows, columns = np.arange(shape[0]) // block[0], np.arange(shape[1]) // block[1]
    return scale[rows][:, columns]


def blocks_of(weight: torch.Tensor, block: tuple[int, int]) -> Array:
    """Random positive scales, one for each block of a matrix."""
    counts = [-(-size // length) for size, length in zip(weight.shape, block, strict=True)]
    return np.random.default_rng(weight.shape[0]).uniform(0.01, 0.03, counts).astype(np.float32)


def as_fp8(
    end: str, block: Callable[[torch.Size], tuple[int, int]], shape: tuple[int, ...] | None = None
) -> Callable[[str, torch.Tensor], tuple[Tensors, Array]]:
    """Quantize to fp8, with a scale of that name for each block."""

    def quantize(name: str, weight: torch.Tensor) -> tuple[Tensors, Array]:
        scale = blocks_of(weight, block(weight.shape))
        all_scales = spread(scale, weight.shape, block(weight.shape))
        numbers = (weight / torch.tensor(all_scales)).clamp(-448, 448).to(FP8)
        stored = torch.tensor(scale if shape is None else scale.reshape(shape))
        return {name: numbers, name + end: stored}, e4m3(numbers) * all_scales

    return quantize


def as_int8(
    block: Callable[[torch.Size], tuple[int, int]], zero_point: int | None = None
) -> Callable[[str, torch.Tensor], tuple[Tensors, Array]]:
    """Quantize to integers, as compressed-tensors does."""

    def quantize(name: str, weight: torch.Tensor) -> tuple[Tensors, Array]:
        scale = blocks_of(weight, block(weight.shape))
        all_scales = spread(scale, weight.shape, block(weight.shape))
        zero = zero_point or 0
        numbers = (weight / torch.tensor(all_scales)).round().add(zero).clamp(-128, 127)
        made = {name: numbers.to(torch.int8), f"{name}_scale": torch.tensor(scale)}
        if zero_point is not None:
            made[f"{name}_zero_point"] = torch.full(scale.shape, zero_point, dtype=torch.int8)
        return made, (numbers.numpy().astype(np.float64) - zero) * all_scales

    return quantize


def row(shape: torch.Size) -> tuple[int, int]:
    return 1, shape[1]


def tensor(shape: torch.Size) -> tuple[int, int]:
    return shape[0], shape[1]


def square(shape: torch.Size) -> tuple[int, int]:
    return 24, 24


def group(shape: torch.Size) -> tuple[int, int]:
    return 1, 16


def compressed(format: str, **weights: Any) -> dict[str, Any]:
    """A statement as compressed-tensors writes it."""
    own = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"} | weights
    return {
        "quant_method": "compressed-tensors",
        "format": format,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": own}},
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
    }


FORMATS: dict[str, tuple[dict[str, Any], Callable[[str, torch.Tensor], tuple[Tensors, Array]]]] = {
    "DeepSeek's blocks": (
        {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [24, 24]},
        as_fp8("_scale_inv", square),
    ),
    "fp8 with one scale": (
        {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None},
        as_fp8("_scale_inv", tensor, ()),
    ),
    "fp8 as vLLM saved it": (
        {"quant_method": "fp8", "activation_scheme": "dynamic"},
        as_fp8("_scale", tensor, (1,)),
    ),
    "FBGEMM": ({"quant_method": "fbgemm_fp8"}, as_fp8("_scale", row)),
    "ModelOpt": ({"quant_method": "modelopt", "quant_algo": "FP8"}, as_fp8("_scale", tensor, ())),
    "ModelOpt's file": (
        dict(stated_beside("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}})),
        as_fp8("_scale", tensor, ()),
    ),
    "compressed-tensors": (compressed("float-quantized"), as_fp8("_scale", row)),
    "compressed-tensors with blocks": (
        compressed("float-quantized", strategy="block", block_structure=[24, 24]),
        as_fp8("_scale", square),
    ),
    "compressed-tensors of integers": (
        compressed("int-quantized", type="int"),
        as_int8(row),
    ),
    "compressed-tensors with groups": (
        compressed("naive-quantized", type="int", strategy="group", group_size=16),
        as_int8(group),
    ),
    "compressed-tensors with zero points": (
        compressed("int-quantized", type="int", symmetric=False),
        as_int8(row, zero_point=5),
    ),
}


def is_quantized(name: str) -> bool:
    return name.endswith("proj.weight")


def quantized(
    folder: Path,
    statement: dict[str, Any] | None,
    quantize: Callable[[str, torch.Tensor], tuple[Tensors, Array]],
    which: Callable[[str], bool] = is_quantized,
    key: str = "quantization_config",
) -> Path:
    """Quantize a finetune, and put the plain model that it stands for into a folder beside it."""
    plain = folder.with_name("plain")
    shutil.copytree(folder, plain)
    tensors = load_file(folder / "model.safetensors")
    stored: Tensors = {}
    products: Tensors = {}
    for name in filter(which, tensors):
        more, product = quantize(name, tensors[name])
        stored |= more
        products[name] = torch.tensor(product, dtype=torch.float32)
    rewrite(folder, {**stored})
    rewrite(plain, {**products})
    config = json.loads((folder / "config.json").read_bytes())
    if statement is not None:
        (folder / "config.json").write_text(json.dumps(config | {key: statement}))
    return plain


@pytest.fixture
def finetune(tiny_base: Path, tmp_path: Path) -> Path:
    return make_finetune(tmp_path / "finetune", tiny_base, shard="1GB")


@pytest.fixture(scope="module")
def engine(tiny_base: Path) -> StreamedEngine:
    return StreamedEngine(tiny_base, probes_of(tiny_base))


def refused(engine: StreamedEngine, folder: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        embed(engine, full(folder))
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
    return str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_that_is_stated_and_simple(
    name: str, finetune: Path, engine: StreamedEngine, tiny_base: Path
) -> None:
    plain = quantized(finetune, *FORMATS[name])
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(plain, tiny_base)) < CLOSE


def test_a_table_of_embeddings(finetune: Path, engine: StreamedEngine, tiny_base: Path) -> None:
    statement = compressed("int-quantized", type="int")
    plain = quantized(finetune, statement, as_int8(row), lambda name: "embed" in name)
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(plain, tiny_base)) < CLOSE


def test_the_older_key_of_compressed_tensors(
    finetune: Path, engine: StreamedEngine, tiny_base: Path
) -> None:
    statement, quantize = FORMATS["compressed-tensors"]
    plain = quantized(finetune, statement, quantize, key="compression_config")
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(plain, tiny_base)) < CLOSE


def test_scales_of_activations_and_of_the_cache_are_no_weights(
    finetune: Path, engine: StreamedEngine, tiny_base: Path
) -> None:
    statement, quantize = FORMATS["ModelOpt"]
    plain = quantized(finetune, statement, quantize)
    own = "model.layers.0.self_attn"
    names = (f"{own}.q_proj.input_scale", f"{own}.k_scale", f"{own}.k_proj.k_scale")
    rewrite(finetune, {name: torch.tensor(0.5) for name in names})
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(plain, tiny_base)) < CLOSE


def test_experts_one_by_one(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", model_type="mixtral", **family("mixtral").config)
    finetune = make_finetune(tmp_path / "finetune", base, shard="1GB")
    statement = {"quant_method": "fp8", "weight_block_size": [24, 24]}
    plain = quantized(
        finetune,
        statement,
        as_fp8("_scale_inv", square),
        lambda name: ".experts." in name or is_quantized(name),
    )
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, expected(plain, base)) < CLOSE


def test_the_experts_of_gpt_oss_and_a_base_that_is_quantized_too(tmp_path: Path) -> None:
    config = {"num_local_experts": 4, "head_dim": 8, "layer_types": ["full_attention"] * 2}
    base = make_base(tmp_path / "base", model_type="gpt_oss", **config)

    def as_mxfp4(name: str, weight: torch.Tensor) -> tuple[Tensors, Array]:
        random = np.random.default_rng(len(name))
        experts, width, rows = weight.shape
        numbers = random.integers(0, 16, (experts, rows, width // 32, 32))
        exponents = random.integers(122, 126, (experts, rows, width // 32))
        table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
        values = np.where(numbers >= 8, -1, 1) * table[numbers % 8]
        product = (values * 2.0 ** (exponents[..., None] - 127)).reshape(experts, rows, width)
        packed = (numbers[..., 0::2] | numbers[..., 1::2] << 4).astype(np.uint8)
        scales = torch.tensor(exponents.astype(np.uint8))
        return (
            {f"{name}_blocks": torch.tensor(packed), f"{name}_scales": scales},
            product.transpose(0, 2, 1).copy(),
        )

    finetune = make_finetune(tmp_path / "finetune", base, shard="1GB")
    experts = [name for name in load_file(finetune / "model.safetensors") if name.endswith("_proj")]
    assert experts
    plain = quantized(finetune, {"quant_method": "mxfp4"}, as_mxfp4, experts.__contains__)
    rewrite(finetune, dict.fromkeys(experts))
    wanted = expected(plain, base)
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, wanted) < CLOSE
    both = StreamedEngine(finetune, probes_of(base))
    assert distance(both.baseline.activations, wanted) < CLOSE
    assert embed(both, full(finetune)).signal == 0


def test_fp8_without_any_scale_is_what_it_says(
    finetune: Path, engine: StreamedEngine, tiny_base: Path
) -> None:
    def cast(name: str, weight: torch.Tensor) -> tuple[Tensors, Array]:
        return {name: weight.to(FP8)}, e4m3(weight.to(FP8))

    plain = quantized(finetune, None, cast)
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(plain, tiny_base)) < CLOSE


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantized \(gptq 4-bit\)"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, r"\(modelopt NVFP4\)"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "compressed-tensors"),
        (compressed("pack-quantized", num_bits=4), "compressed-tensors pack-quantized"),
        (compressed("float-quantized", num_bits=4), "compressed-tensors float-quantized"),
        (compressed("float-quantized") | {"transform_config": {"a": 1}}, "compressed-tensors"),
        (compressed("float-quantized") | {"config_groups": [1]}, "in an unknown way"),
        ({"quant_type": "torchao"}, "torchao"),
        ({"bits": 4}, "unknown 4-bit"),
    ],
    ids=str,
)
def test_another_format_that_is_stated(
    statement: dict[str, Any], message: str, finetune: Path, engine: StreamedEngine
) -> None:
    config = json.loads((finetune / "config.json").read_bytes())
    (finetune / "config.json").write_text(json.dumps(config | {"quantization_config": statement}))
    said = refused(engine, finetune)
    assert said.startswith("its weights are quantized")
    assert re.search(message, said)


def test_a_format_that_a_file_beside_states() -> None:
    files = {"hf_quant_config.json": b'{"quantization": {"quant_algo": "NVFP4"}}'}

    def read(file: str) -> bytes:
        if file not in files:
            raise AdapterError(Reason.NO_WEIGHTS, f"there is no {file}")
        return files[file]

    modelopt = {"quant_algo": "NVFP4", "quant_method": "modelopt"}
    assert stated(with_statement_beside({}, {"F8_E4M3", "BF16"}, read)) == modelopt
    assert with_statement_beside({}, {"F32", "BF16"}, read) == {}
    files = {"quant_config.json": b'{"w_bit": 4}'}
    assert stated(with_statement_beside({}, {"I32"}, read)) == {"w_bit": 4, "quant_method": "awq"}
    own = {"quantization_config": {"quant_method": "fp8"}}
    assert with_statement_beside(own, {"I32"}, read) == own
    files = {"quantize_config.json": b"{"}
    with pytest.raises(AdapterError, match=r"quantize_config\.json is not JSON"):
        with_statement_beside({}, {"I32"}, read)
    files = {}
    assert with_statement_beside({}, {"I32"}, read) == {}


def test_where_a_config_states_a_format() -> None:
    own = {"quant_method": "fp8"}
    assert stated({"quantization_config": own}) == own
    assert stated({"quantization_config": None, "text_config": {"quantization_config": own}}) == own
    mlx = {"group_size": 64, "bits": 4}
    assert stated({"quantization_config": mlx, "quantization": mlx}) == mlx | {
        "quant_method": "mlx"
    }
    assert stated({"quantization_config": None, "text_config": {}}) is None


QUERY = "model.layers.1.self_attn.q_proj"
WORDS = torch.zeros(32, 4, dtype=torch.int32)
BYTES = torch.zeros(512, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("method", "without", "changes"),
    [
        ("8-bit with block scales", False, {"weight_scale_inv": torch.ones(1, 1)}),
        ("unknown format", False, {"weight_scale": torch.ones(32, 1)}),
        ("AWQ or GPTQ", True, {"qweight": WORDS, "qzeros": WORDS, "scales": torch.ones(1, 32)}),
        ("GPTQ", True, {"qweight": WORDS, "g_idx": WORDS[:, 0], "scales": torch.ones(1, 32)}),
        ("bitsandbytes", False, {"weight.absmax": BYTES, "weight.quant_map": torch.ones(16)}),
        ("bitsandbytes", False, {"SCB": torch.ones(32), "weight_format": BYTES[0]}),
        ("MLX", False, {"scales": torch.ones(32, 1), "biases": torch.zeros(32, 1)}),
        ("HQQ", True, {"W_q": BYTES, "scale": torch.ones(32, 1), "meta": BYTES}),
        ("AQLM", True, {"codes": BYTES, "codebooks": torch.ones(1, 4), "scales": torch.ones(32)}),
        ("EETQ", False, {"weight_scales": torch.ones(32)}),
        ("NVFP4", False, {"weight_scale": torch.ones(32, 2), "weight_scale_2": torch.ones(())}),
        ("compressed-tensors", True, {"weight_packed": WORDS, "weight_scale": torch.ones(32, 1)}),
        ("TorchAO", True, {"weight:_data": WORDS, "weight:scale": torch.ones(32)}),
        ("quanto", True, {"weight._data": WORDS, "weight._scale": torch.ones(32)}),
        ("stored as torch.int8", False, {"weight": torch.ones(32, 32, dtype=torch.int8)}),
        ("stored as torch.uint32", False, {"weight": WORDS.view(torch.uint32)}),
    ],
)
def test_a_format_that_only_tensors_show(
    method: str,
    without: bool,
    changes: Tensors,
    finetune: Path,
    engine: StreamedEngine,
) -> None:
    rewrite(finetune, {f"{QUERY}.{end}": own.clone() for end, own in changes.items()})
    if without:
        rewrite(finetune, {f"{QUERY}.weight": None})
    said = refused(engine, finetune)
    assert said.startswith("its weights are quantized")
    assert method in said


def test_numbers_without_their_scale(finetune: Path, engine: StreamedEngine) -> None:
    quantized(finetune, *FORMATS["DeepSeek's blocks"])
    rewrite(finetune, {f"{QUERY}.weight_scale_inv": None})
    assert f"{QUERY}.weight is float8_e4m3fn and has no scale" in refused(engine, finetune)


def test_scales_that_do_not_fit(finetune: Path, engine: StreamedEngine) -> None:
    quantized(finetune, *FORMATS["DeepSeek's blocks"])
    rewrite(finetune, {f"{QUERY}.weight_scale_inv": torch.ones(3, 3)})
    with pytest.raises(AdapterError, match="weight_scale_inv has shape") as caught:
        embed(engine, full(finetune))
    assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{QUERY}.bias", "has no place in the model"),
        ("model.layers.0.mlp.extra.weight", "has no place in the model"),
        (f"{QUERY}.lora_A.weight", "was not merged"),
        ("module.model.norm.bias", "has no place in the model"),
    ],
)
def test_a_tensor_in_a_layer_that_nothing_takes(
    name: str, message: str, finetune: Path, engine: StreamedEngine
) -> None:
    rewrite(finetune, {name: torch.ones(32)})
    assert message in refused(engine, finetune)


def test_a_tensor_that_nothing_takes_outside_of_what_runs_or_as_in_the_base(
    finetune: Path, tiny_base: Path, tmp_path: Path
) -> None:
    wanted = expected(finetune, tiny_base)
    base = shutil.copytree(tiny_base, tmp_path / "base")
    rewrite(base, {"language_model.model.layers.0.self_attn.extra": torch.ones(3)})
    names = (
        *("v_head.summary.weight", "score.weight", "lm_head.weight_scale", "mtp.layers.0.weight"),
        *("model.layers.2.self_attn.q_proj.weight", "vision_tower.layers.0.weight_scale"),
        *("model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.0.self_attn.extra"),
    )
    rewrite(finetune, {name: torch.ones(3) for name in names})
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, wanted) < CLOSE
