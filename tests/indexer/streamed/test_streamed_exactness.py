"""A streamed model answers as transformers does with all of it in memory."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Event, Lock

import numpy as np
import pytest
import torch
from families import FAMILIES, Family, family, load_model, make_base
from finetunes import distance, embed, expected, full, make_finetune, probes_of, rewrite
from safetensors.torch import load_file
from transformers import PreTrainedModel

from hubdelta.indexer.adapters.checkpoint import weight_files
from hubdelta.indexer.engines.engine import Activations
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.indexer.engines.streamed.skeleton import Skeleton
from hubdelta.indexer.engines.streamed.stream import WeightStream

CLOSE = 1e-5
DECODERS = [family for family in FAMILIES if not family.embedding_is_shared]


def base_of(folder: Path, family: Family, **config: object) -> Path:
    return make_base(folder, model_type=family.model_type, **(dict(family.config) | config))


Streamed = Callable[[Family], tuple[Path, StreamedEngine]]


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    """The base of a family and the engine on it, which its finetunes share."""

    @cache
    def of(family: Family) -> tuple[Path, StreamedEngine]:
        base = base_of(tmp_path_factory.mktemp("base") / str(family), family)
        return base, StreamedEngine(base, probes_of(base))

    return of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_family_in_every_float_type(
    family: Family, dtype: torch.dtype, streamed: Streamed, tmp_path: Path
) -> None:
    base, engine = streamed(family)
    finetune = make_finetune(tmp_path / "finetune", base, dtype=dtype)
    assert len(weight_files(finetune)) > 1
    answer = embed(engine, full(finetune))
    wanted, own = expected(finetune, base), expected(base, base)
    assert distance(answer.activations, wanted) < CLOSE
    assert distance(answer.baseline.activations, own) < CLOSE
    assert distance(answer.delta, (wanted - own).mean(axis=0)) < CLOSE
    assert answer.signal > 1000


@pytest.mark.parametrize("family", DECODERS, ids=str)
def test_what_the_bare_model_class_saved(
    family: Family, streamed: Streamed, tmp_path: Path
) -> None:
    base, engine = streamed(family)
    finetune = make_finetune(tmp_path / "finetune", base, bare=True)
    answer = embed(engine, full(finetune))
    assert distance(answer.activations, expected(finetune, base)) < CLOSE


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "t5"])
def test_pickles(model_type: str, streamed: Streamed, tmp_path: Path) -> None:
    base, engine = streamed(family(model_type))
    finetune = make_finetune(tmp_path / "finetune", base, shard="1GB")
    wanted = expected(finetune, base)
    tensors = load_file(finetune / "model.safetensors")
    (finetune / "model.safetensors").unlink()
    for older in (False, True):
        torch.save(
            tensors, finetune / "pytorch_model.bin", _use_new_zipfile_serialization=not older
        )
        answer = embed(engine, full(finetune))
        assert distance(answer.activations, wanted) < CLOSE


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "opt", "gemma2"])
@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings(model_type: str, tied: bool, tmp_path: Path) -> None:
    base = base_of(tmp_path / "base", family(model_type), tie_word_embeddings=tied)
    finetune = make_finetune(tmp_path / "finetune", base)
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, expected(finetune, base)) < CLOSE


def test_a_tied_embedding_that_was_saved_as_the_output_layer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", tie_word_embeddings=True)
    finetune = make_finetune(tmp_path / "finetune", base, shard="1GB")
    name = "model.embed_tokens.weight"
    table = load_file(finetune / "model.safetensors")[name]
    rewrite(finetune, {name: None, "lm_head.weight": table})
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, expected(finetune, base)) < CLOSE


def test_more_tokens_than_the_base_has(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", vocab_size=100)
    longer = make_base(tmp_path / "longer", vocab_size=130, seed=3)
    answer = embed(StreamedEngine(base, probes_of(base)), full(longer))
    assert distance(answer.activations, expected(longer, base)) < CLOSE


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [0, 2, 1, 4, 3], [0, 0, 1, 1, 4]], ids=str)
def test_layers_that_run_in_another_order_than_they_are_named(
    order: list[int], tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base", num_hidden_layers=5)
    probe = probes_of(base)[0]

    def run(model: PreTrainedModel) -> Activations:
        model.model.layers = torch.nn.ModuleList([model.model.layers[place] for place in order])
        return model.model(input_ids=probe, use_cache=False).last_hidden_state.numpy()

    finetune = full(base)
    skeleton = Skeleton.build(finetune.config, "cpu")
    with torch.inference_mode():
        with WeightStream(skeleton, finetune.checkpoint, device="cpu", stop=Event()):
            found = run(skeleton.model)
        assert distance(found, run(load_model(base).eval())) < CLOSE


def test_the_base_is_no_signal_and_one_engine_serves_many(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    finetune = make_finetune(tmp_path / "finetune", base)
    lock = Lock()
    engine = StreamedEngine(base, probes_of(base), turn=lock)
    answers = dict(engine.answers([full(base), full(finetune), full(base)]))
    assert np.array_equal(answers[0].activations, answers[2].activations)
    assert answers[0].signal == 0
    assert answers[1].signal > 1000
    assert not lock.locked()


def test_a_run_that_is_stopped_gives_no_answer(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    stop = Event()
    engine = StreamedEngine(base, probes_of(base), stop=stop)
    embed(engine, full(base))
    stop.set()
    assert list(engine.answers([full(base)])) == []


def test_a_finetune_whose_attention_is_not_causal_is_not_led_astray_by_padding(
    tmp_path: Path,
) -> None:
    base = make_base(tmp_path / "base")
    folder = make_finetune(tmp_path / "finetune", base)
    config = json.loads((folder / "config.json").read_bytes()) | {"is_causal": False}
    (folder / "config.json").write_text(json.dumps(config))
    found = embed(StreamedEngine(base, probes_of(base)), full(folder)).activations
    assert distance(found, expected(folder, base)) < CLOSE


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        {
            "rope_type": "longrope",
            "short_factor": [1.0] * 4,
            "long_factor": [3.0] * 4,
            "original_max_position_embeddings": 24,
        },
    ],
    ids=lambda rope: str(rope["rope_type"]),
)
def test_positions_that_are_scaled_by_the_length_of_a_text(
    rope: dict[str, object], tmp_path: Path
) -> None:
    base = make_base(
        tmp_path / "base",
        max_position_embeddings=24,
        rope_parameters={"rope_theta": 10000.0, **rope},
    )
    lengths = {probe.shape[1] for probe in probes_of(base)}
    assert len(lengths) > 1
    assert max(lengths) > 24
    finetune = make_finetune(tmp_path / "finetune", base)
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, expected(finetune, base)) < CLOSE
    assert distance(answer.baseline.activations, expected(base, base)) < CLOSE


def test_a_base_in_which_padding_shows_runs_each_probe_by_itself(tmp_path: Path) -> None:
    """CPM-Ant tells how long a text is from its token ids, whatever the mask says."""
    sizes = {"dim_head": 8, "dim_ff": 64, "prompt_length": 4, "prompt_types": 8, "segment_types": 8}
    base = make_base(tmp_path / "base", model_type="cpmant", **sizes)
    finetune = make_finetune(tmp_path / "finetune", base)
    answer = embed(StreamedEngine(base, probes_of(base)), full(finetune))
    assert distance(answer.activations, expected(finetune, base)) < CLOSE
    assert distance(answer.baseline.activations, expected(base, base)) < CLOSE


def test_a_config_with_an_infinity_is_read(tmp_path: Path) -> None:
    base = make_base(
        tmp_path / "base",
        model_type="mamba2",
        num_heads=8,
        head_dim=8,
        state_size=8,
        n_groups=1,
    )
    assert "Infinity" in (base / "config.json").read_text()
    answer = embed(StreamedEngine(base, probes_of(base)), full(base))
    assert distance(answer.activations, expected(base, base)) < CLOSE
