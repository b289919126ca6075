"""What cannot be streamed is refused with its reason, and by name."""

import errno
import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from families import family, make_base
from finetunes import KEY, embed, full, make_finetune, probes_of, rewrite
from safetensors.torch import load_file

from hubdelta.indexer.adapters.adapter import FullFinetune
from hubdelta.indexer.adapters.checkpoint import Checkpoint, open_local
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.schemas.errors import AdapterError, Reason

NORM = "model.norm.weight"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Path:
    return tiny_base


@pytest.fixture
def finetune(base: Path, tmp_path: Path) -> Path:
    return make_finetune(tmp_path / "finetune", base, shard="1GB")


@pytest.fixture(scope="module")
def engine(base: Path) -> StreamedEngine:
    return StreamedEngine(base, probes_of(base))


def refused(engine: StreamedEngine, finetune: FullFinetune) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        embed(engine, finetune)
    return caught.value


@pytest.mark.parametrize("name", [NORM, QUERY, "model.embed_tokens.weight"])
def test_a_missing_tensor(name: str, engine: StreamedEngine, finetune: Path) -> None:
    rewrite(finetune, {name: None})
    error = refused(engine, full(finetune))
    assert error.reason is Reason.CORRUPT
    assert name in str(error)


def test_a_missing_output_layer_is_not_missed(engine: StreamedEngine, finetune: Path) -> None:
    rewrite(finetune, {"lm_head.weight": None})
    embed(engine, full(finetune))


@pytest.mark.parametrize("name", [NORM, QUERY, "model.embed_tokens.weight"])
def test_a_tensor_of_another_shape(name: str, engine: StreamedEngine, finetune: Path) -> None:
    rewrite(finetune, {name: torch.zeros(5)})
    error = refused(engine, full(finetune))
    assert error.reason is Reason.CORRUPT
    assert f"{name} has shape [5]" in str(error)


@pytest.mark.parametrize("name", [NORM, QUERY, "model.embed_tokens.weight"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_not_finite(name: str, value: float, engine: StreamedEngine, finetune: Path) -> None:
    tensor = load_file(finetune / "model.safetensors")[name]
    rewrite(finetune, {name: torch.full_like(tensor, value)})
    error = refused(engine, full(finetune))
    assert error.reason is Reason.NOT_FINITE
    assert name in str(error)


def test_what_is_not_used_may_be_anything(engine: StreamedEngine, finetune: Path) -> None:
    tensors = load_file(finetune / "model.safetensors")
    head = torch.full_like(tensors["lm_head.weight"], torch.nan)
    rewrite(finetune, {"lm_head.weight": head, "value_head": torch.tensor([torch.nan])})
    embed(engine, full(finetune))


def test_weights_as_integers(engine: StreamedEngine, finetune: Path) -> None:
    rewrite(finetune, {QUERY: torch.zeros(32, 32, dtype=torch.int8)})
    assert refused(engine, full(finetune)).reason is Reason.UNSUPPORTED_ADAPTER


def test_too_few_rows_for_the_probes(base: Path, tmp_path: Path) -> None:
    engine = StreamedEngine(base, probes_of(base))
    error = refused(engine, full(make_base(tmp_path / "short", vocab_size=10)))
    assert error.reason is Reason.BASE_MISMATCH
    assert "10 rows" in str(error)


def test_other_dimensions_than_the_base(engine: StreamedEngine, tmp_path: Path) -> None:
    wider = make_base(tmp_path / "wider", hidden_size=64)
    assert refused(engine, full(wider)).reason is Reason.BASE_MISMATCH


def test_a_missing_expert(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", model_type="mixtral", **family("mixtral").config)
    finetune = make_finetune(tmp_path / "finetune", base, shard="1GB")
    name = next(name for name in load_file(finetune / "model.safetensors") if ".experts.2." in name)
    rewrite(finetune, {name: None})
    error = refused(StreamedEngine(base, probes_of(base)), full(finetune))
    assert error.reason is Reason.CORRUPT
    assert "experts" in str(error)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"model_type": "no-such-model"},
        {"num_attention_heads": "four"},
        {"use_bidirectional_attention": True},
    ],
    ids=str,
)
def test_a_config_that_makes_no_model(
    changes: dict[str, object], engine: StreamedEngine, finetune: Path
) -> None:
    whole = full(finetune)
    changed = FullFinetune(KEY, {**whole.config, **changes}, whole.checkpoint, 0)
    assert refused(engine, changed).reason is Reason.UNSUPPORTED_ADAPTER


def test_a_config_does_not_choose_the_code_that_runs(
    engine: StreamedEngine, finetune: Path
) -> None:
    whole = full(finetune)
    changes = {
        "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"},
        "attn_implementation": "someone/kernels",
        "_attn_implementation_internal": "someone/kernels",
        "experts_implementation": "someone/kernels",
        "output_hidden_states": True,
    }
    changed = FullFinetune(KEY, {**whole.config, **changes}, whole.checkpoint, 0)
    assert embed(engine, changed).delta.tolist() == embed(engine, whole).delta.tolist()


def test_a_pickle_with_code(finetune: Path, tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weights": print}, path)
    with pytest.raises(AdapterError) as caught:
        open_local([path])
    assert caught.value.reason is Reason.UNSAFE_FORMAT


@pytest.mark.parametrize("length", [4, 100, -10])
def test_a_truncated_file(length: int, finetune: Path) -> None:
    file = finetune / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(AdapterError) as caught:
        open_local([file])
    assert caught.value.reason is Reason.CORRUPT


def test_a_base_that_cannot_be_streamed_is_tried_once_and_its_finetunes_fail(
    base: Path, finetune: Path, tmp_path: Path
) -> None:
    config = json.loads((base / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine = StreamedEngine(tmp_path, probes_of(base))
    for _ in range(2):
        with pytest.raises(AdapterError, match="holds no weights") as caught:
            embed(engine, full(finetune))
        assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
        shutil.copy(base / "model.safetensors", tmp_path)  # too late for this engine


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), OSError(errno.ENOMEM, "no")])
def test_where_memory_runs_out_a_finetune_is_left_for_another_run(
    error: Exception, base: Path, finetune: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = StreamedEngine(base, probes_of(base))
    with monkeypatch.context() as short:
        short.setattr(Checkpoint, "read", Mock(side_effect=error))
        assert list(engine.answers([full(finetune)])) == []
    embed(engine, full(finetune))
