"""Finetunes streamed from a Hub: hardly a byte more than is needed, whatever the server does."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from families import family, make_base
from faults import Fault, FaultyHub
from finetunes import KEY, distance, embed, expected, full, make_finetune, probes_of
from safetensors.torch import load_file, save_file

from hubdelta.crawler.downloads import weight_header
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.indexer.adapters.checkpoint import Checkpoint, open_remote, weight_files
from hubdelta.indexer.engines.streamed.engine import StreamedEngine
from hubdelta.schemas.errors import AdapterError, Reason

CLOSE = 1e-5
CONTENT = "/api/resolve-cache/*"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama most of whose bytes are embeddings and output layer."""
    return make_base(tmp_path_factory.mktemp("base") / "base", vocab_size=6000, seed=5)


@pytest.fixture(scope="module")
def engine(base: Path) -> StreamedEngine:
    return StreamedEngine(base, probes_of(base))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[FaultyHub]:
    (tmp_path / "hub").mkdir()
    with FaultyHub(tmp_path / "hub") as served:
        yield served


@pytest.fixture
def hub(served: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    settings = HubSettings(
        endpoint=served.url, timeout=5.0, attempts=3, first_wait=0.01, longest_wait=0.02
    )
    with Hub(settings) as hub:
        yield hub


@pytest.fixture
def repo(served: FaultyHub) -> Path:
    """Where the finetune is to be."""
    folder = served.folder / KEY.repo_id
    folder.mkdir(parents=True)
    (folder / ".hub.yaml").write_text(f"sha: '{KEY.revision}'\n")
    return folder


def remote(hub: Hub, folder: Path, base: Path) -> Checkpoint:
    files = [path.name for path in weight_files(folder)]
    headers = {file: weight_header(hub, KEY, file) for file in files}
    return open_remote(hub, KEY, headers, base, connections=3)


def sent(served: FaultyHub) -> int:
    return sum(record.bytes for record in served.requests if record.status in {200, 206})


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral", "t5"])
def test_shards_on_a_hub(
    model_type: str, hub: Hub, repo: Path, tmp_path: Path, served: FaultyHub
) -> None:
    base = make_base(tmp_path / "base", model_type=model_type, **family(model_type).config)
    make_finetune(repo, base, dtype=torch.bfloat16)
    answer = embed(StreamedEngine(base, probes_of(base)), full(repo, remote(hub, repo, base)))
    assert distance(answer.activations, expected(repo, base)) < CLOSE


def test_only_what_is_used_is_fetched(
    hub: Hub, repo: Path, base: Path, engine: StreamedEngine, served: FaultyHub
) -> None:
    make_finetune(repo, base, shard="1MB")
    checkpoint = remote(hub, repo, base)
    served.requests.clear()
    answer = embed(engine, full(repo, checkpoint))
    assert distance(answer.activations, expected(repo, base)) < CLOSE

    tokens = {token for probe in probes_of(base) for token in probe[0].tolist()}
    needed = sum(
        len(tokens) * 32 * 4 if "embed_tokens" in name else stored.bytes
        for name, stored in checkpoint.tensors.items()
        if name != "lm_head.weight"
    )
    assert needed < 0.1 * sum(stored.bytes for stored in checkpoint.tensors.values())
    assert needed <= checkpoint.fetched_bytes <= 1.05 * needed
    assert sent(served) == checkpoint.fetched_bytes


def test_a_server_that_ignores_ranges(
    hub: Hub, repo: Path, base: Path, engine: StreamedEngine, served: FaultyHub
) -> None:
    make_finetune(repo, base, shard="1GB")
    checkpoint = remote(hub, repo, base)
    served.faults.add(Fault(CONTENT, times=None, no_ranges=True))
    answer = embed(engine, full(repo, checkpoint))
    assert distance(answer.activations, expected(repo, base)) < CLOSE


def test_transfers_that_break_off_are_taken_up_again(
    hub: Hub, repo: Path, base: Path, engine: StreamedEngine, served: FaultyHub
) -> None:
    make_finetune(repo, base)
    checkpoint = remote(hub, repo, base)
    served.faults.add(Fault(CONTENT, times=5, cut_after=1000))
    served.faults.add(Fault(CONTENT, times=2, after=8, status=503))
    answer = embed(engine, full(repo, checkpoint))
    assert distance(answer.activations, expected(repo, base)) < CLOSE


@pytest.mark.parametrize(
    ("status", "reason"), [(503, Reason.NETWORK), (403, Reason.GATED), (404, Reason.NOT_FOUND)]
)
def test_a_hub_that_fails_in_the_middle(
    status: int,
    reason: Reason,
    hub: Hub,
    repo: Path,
    base: Path,
    engine: StreamedEngine,
    served: FaultyHub,
) -> None:
    make_finetune(repo, base)
    checkpoint = remote(hub, repo, base)
    served.faults.add(Fault(CONTENT, times=None, after=3, status=status))
    with pytest.raises(AdapterError) as caught:
        embed(engine, full(repo, checkpoint))
    assert caught.value.reason is reason
    served.faults.clear()
    embed(engine, full(repo, remote(hub, repo, base)))


def test_a_shard_that_is_the_bases_is_not_fetched(
    hub: Hub, repo: Path, base: Path, engine: StreamedEngine, served: FaultyHub, tmp_path: Path
) -> None:
    """Half of the layers are frozen; the base lies once in a folder, once in a cache."""
    own = load_file(base / "model.safetensors")
    parts = {
        "model-00001-of-00002.safetensors": {n: t for n, t in own.items() if "layers.0." in n},
        "model-00002-of-00002.safetensors": {n: t for n, t in own.items() if "layers.0." not in n},
    }
    sharded, cached = tmp_path / "sharded", tmp_path / "snapshots/cached"
    for folder in (sharded, repo):
        folder.mkdir(exist_ok=True)
        shutil.copy(base / "config.json", folder)
        for file, tensors in parts.items():
            frozen = folder is sharded or "00001" in file
            changed = tensors if frozen else {n: t + 0.1 for n, t in tensors.items()}
            save_file(changed, folder / file, {"format": "pt"})
        names = {name: file for file, tensors in parts.items() for name in tensors}
        (folder / "model.safetensors.index.json").write_text(
            f'{{"metadata": {{}}, "weight_map": {str(names).replace(chr(39), chr(34))}}}'
        )
    cached.mkdir(parents=True)
    for file in sharded.iterdir():
        (cached / file.name).symlink_to(file)
    frozen_file = "model-00001-of-00002.safetensors"
    digest = weight_header(hub, KEY, frozen_file).hash
    assert digest is not None
    (tmp_path / digest).write_bytes((sharded / frozen_file).read_bytes())
    (cached / frozen_file).unlink()
    (cached / frozen_file).symlink_to(tmp_path / digest)

    wanted = expected(repo, base)
    for folder in (sharded, cached):
        checkpoint = remote(hub, repo, folder)
        served.requests.clear()
        answer = embed(engine, full(repo, checkpoint))
        assert distance(answer.activations, wanted) < CLOSE
        assert served.requests
        assert not any(frozen_file in record.path for record in served.requests)
        assert sent(served) == checkpoint.fetched_bytes
