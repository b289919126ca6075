"""Copies of a base are told from finetunes that kept its name by what they hold."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from faults import Fault, FaultyHub
from safetensors.torch import save
from small_repos import BASE, Repos

from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.hub import Hub
from hubdelta.crawler.ledger import newest_rows
from hubdelta.schemas.index import Index

State = dict[str, torch.Tensor]

COPY = "copy/Base-1B"


def base_weights() -> State:
    random = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (40, 8), "lm_head.weight": (40, 8)}
    for layer in range(3):
        for part in ("q_proj", "v_proj", "down_proj"):
            shapes[f"model.layers.{layer}.{part}.weight"] = (8, 8)
        shapes[f"model.layers.{layer}.norm.weight"] = (8,)
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def changed(name: str) -> State:
    """The base's weights after a step of training of one tensor."""
    weights = base_weights()
    weights[name] = weights[name] + 1e-3
    return weights


def in_type(dtype: torch.dtype, weights: State) -> State:
    return {name: tensor.to(dtype) for name, tensor in weights.items()}


def renamed(change: Mapping[str, str]) -> State:
    weights = base_weights()
    for old, new in change.items():
        weights = {name.replace(old, new): tensor for name, tensor in weights.items()}
    return weights


def one_file(weights: State) -> dict[str, bytes]:
    return {"config.json": b'{"model_type": "llama"}', "model.safetensors": save(weights)}


def shards(weights: State, count: int) -> dict[str, bytes]:
    names = sorted(weights)
    files, places = {"config.json": b'{"model_type": "llama"}'}, {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        files[file] = save({name: weights[name] for name in names[number::count]})
        places |= dict.fromkeys(names[number::count], file)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    return files


@pytest.fixture
def repos(repos: Repos) -> Repos:
    repos.model(BASE, files=one_file(base_weights()))
    return repos


def kinds(index: Index, hub: Hub, **options: bool) -> dict[str, str]:
    crawl(index, hub, BASE, **options)
    return {key[0]: row.kind for key, row in newest_rows(index, BASE).items()}


@pytest.mark.parametrize(
    ("changes", "kind"), [((), "mirror"), (("model.layers.1.q_proj.weight",), "full")]
)
def test_an_adapter_in_a_folder_hides_no_copy_of_the_base(
    changes: tuple[str, ...], kind: str, index: Index, hub: Hub, repos: Repos
) -> None:
    weights = changed(*changes) if changes else base_weights()
    repos.adapter(COPY, folder="lora/", files=one_file(weights), card={"base_model": BASE})
    for full in (False, True, False):
        crawl(index, hub, BASE, full=full)
        rows = newest_rows(index, BASE)
        found = {folder: row.kind for (_, folder), row in rows.items()}
        assert found == {"": kind, "lora": "adapter"}
        assert all(row.vanished_at is None for row in rows.values())


@pytest.mark.parametrize(
    "files",
    [
        one_file(base_weights()),
        shards(base_weights(), 3),
        one_file(in_type(torch.bfloat16, base_weights())),
        shards(in_type(torch.float16, base_weights()), 2),
        one_file(renamed({"model.": "language_model.model."})),
        one_file({n: t for n, t in base_weights().items() if n != "lm_head.weight"}),
    ],
    ids=["same files", "other shards", "bfloat16", "float16", "other class", "no output layer"],
)
def test_a_copy_in_any_form_is_a_mirror(
    index: Index, hub: Hub, repos: Repos, files: dict[str, bytes]
) -> None:
    repos.model(COPY, of=BASE, files=files)
    repos.adapter("org/a", tag=COPY, declared=COPY)
    assert kinds(index, hub) == {COPY: "mirror", "org/a": "adapter"}
    row = newest_rows(index, BASE)["org/a", ""]
    assert (row.canonical_base, row.evidence, row.via) == (BASE, "mirror", COPY)


@pytest.mark.parametrize(
    "files",
    [
        one_file(changed("model.layers.2.q_proj.weight")),
        one_file(changed("model.layers.2.norm.weight")),
        shards(changed("model.layers.0.v_proj.weight"), 2),
        one_file(in_type(torch.bfloat16, {n: t * 1.5 for n, t in base_weights().items()})),
        one_file(renamed({"q_proj": "qkv_proj"})),
        one_file({n: t for n, t in base_weights().items() if ".2." not in n}),
        {"config.json": b"{}", "pytorch_model.bin": b"other bytes"},
    ],
    ids=["q", "norm", "first layer", "bfloat16", "converted", "pruned", "pickle"],
)
def test_what_differs_is_a_finetune_and_the_base_of_its_adapters(
    index: Index, hub: Hub, repos: Repos, files: dict[str, bytes]
) -> None:
    repos.model(COPY, of=BASE, files=files)
    repos.adapter("org/a", tag=COPY, declared=COPY)
    repos.adapter("org/b", tag=BASE, declared=f"https://huggingface.co/{COPY}")
    repos.adapter("org/c", tag=COPY, declared="/workspace/out")
    for _ in range(2):  # the second crawl knows it from the catalog
        assert kinds(index, hub) == {COPY: "full"} | dict.fromkeys(
            ("org/a", "org/b", "org/c"), "adapter"
        )
        rows = {key[0]: row for key, row in newest_rows(index, BASE).items()}
        assert rows[COPY].canonical_base == BASE
        assert {rows[name].canonical_base for name in ("org/a", "org/b", "org/c")} == {COPY}
        repos.adapter("org/a", tag=COPY, declared=COPY, card={"datasets": ["new"]})


def test_the_same_pickle_is_a_copy(index: Index, hub: Hub, repos: Repos) -> None:
    pickle = {"config.json": b"{}", "pytorch_model.bin": bytes(range(256)) * 64}
    repos.model(BASE, files=one_file(base_weights()) | pickle)
    repos.model(COPY, of=BASE, files=pickle)
    assert kinds(index, hub) == {COPY: "mirror"}


def test_content_is_compared_once(index: Index, hub: Hub, repos: Repos, served: FaultyHub) -> None:
    repos.model(COPY, of=BASE, files=shards(base_weights(), 2))
    repos.model("student/base-1b", of=BASE, files=one_file(changed("model.layers.2.q_proj.weight")))
    crawl(index, hub, BASE)
    for options in ({}, {"full": True}):
        before = len(served.requests)
        assert kinds(index, hub, **options) == {COPY: "mirror", "student/base-1b": "full"}
        asked = {record.path for record in served.requests[before:]}
        assert asked == {f"/api/models/{BASE}", "/api/models"}


def test_weights_that_cannot_be_looked_at_count_as_a_finetune_until_they_can(
    index: Index,
    hub: Hub,
    repos: Repos,
    served: FaultyHub,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repos.model(COPY, of=BASE, files=shards(base_weights(), 2))
    repos.adapter("org/a", tag=COPY, declared=COPY)
    outage = Fault(f"/api/models/{COPY}/paths-info*", status=503, times=None)
    served.faults.add(outage)
    assert kinds(index, hub) == {COPY: "full", "org/a": "adapter"}
    assert newest_rows(index, BASE)["org/a", ""].canonical_base == COPY
    assert f"{COPY} has the name of {BASE}" in caplog.text
    served.faults.clear()
    assert kinds(index, hub) == {COPY: "mirror", "org/a": "adapter"}
    row = newest_rows(index, BASE)["org/a", ""]
    assert (row.canonical_base, row.via) == (BASE, COPY)


@pytest.mark.parametrize("full", [False, True])
def test_what_an_earlier_version_took_for_a_mirror_is_looked_at(
    index: Index, hub: Hub, repos: Repos, full: bool
) -> None:
    repos.model(COPY, of=BASE, files=one_file(changed("model.layers.2.q_proj.weight")))
    repos.adapter("org/a", tag=COPY, declared=COPY)
    crawl(index, hub, BASE)
    rows = {key[0]: row for key, row in newest_rows(index, BASE).items()}
    old = {
        COPY: replace(rows[COPY], kind="mirror", evidence="tag"),
        "org/a": replace(rows["org/a"], canonical_base=BASE, via=COPY, evidence="mirror"),
    }
    now = datetime.now(UTC)
    index.write([replace(row, crawled_at=now) for row in old.values()], base=BASE)
    assert kinds(index, hub, full=full) == {COPY: "full", "org/a": "adapter"}
    row = newest_rows(index, BASE)["org/a", ""]
    assert (row.canonical_base, row.via) == (COPY, None)


def test_a_copy_under_the_bases_earlier_name_is_a_mirror(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.add("meta/first-name", renamed_to=BASE)
    repos.model("copy/First-Name", of="meta/first-name", files=one_file(base_weights()))
    repos.model("copy/meta-base-1b", of=BASE, files=one_file(base_weights()))
    repos.adapter("org/a", tag="copy/First-Name", declared="copy/First-Name")
    repos.adapter("org/b", tag="copy/meta-base-1b", declared="/tmp/x")
    kinds(index, hub)
    rows = {key[0]: row for key, row in newest_rows(index, BASE).items()}
    assert {name: row.via for name, row in rows.items() if row.kind == "adapter"} == {
        "org/a": "copy/First-Name",
        "org/b": "copy/meta-base-1b",
    }


def test_a_copy_that_no_tag_tells_of_is_found_through_its_adapters(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model(COPY, files=one_file(base_weights()))
    repos.model("other/base-1b", files=one_file(changed("model.layers.2.q_proj.weight")))
    repos.adapter("org/a", tag=COPY, declared=COPY)
    repos.adapter("org/b", tag="other/base-1b", declared="other/base-1b")
    repos.adapter("org/c", tag=None, declared="models/base-1b")
    assert kinds(index, hub)[COPY] == "mirror"
    rows = {key[0]: row for key, row in newest_rows(index, BASE).items()}
    assert (rows["org/a"].canonical_base, rows["org/a"].via) == (BASE, COPY)
    assert (rows["org/c"].canonical_base, rows["org/c"].evidence) == (BASE, "local_path")
    assert rows["org/b"].canonical_base == "other/base-1b"


def test_quantized_copies_are_told_by_their_metadata(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    def quantized(model_type: str) -> dict[str, bytes]:
        config = {"model_type": model_type, "quantization_config": {"quant_method": "awq"}}
        return {"config.json": json.dumps(config).encode(), "model.safetensors": b"x"}

    repos.model("q/base-1b", of=BASE, relation="finetune", files=quantized("llama"))
    repos.model("q/base-1b-awq", of=BASE, files=quantized("llama_text"))
    repos.model("q/converted-awq", of=BASE, files=quantized("phi3"))
    repos.model("t/law-fp8", of=BASE, relation="finetune", files=quantized("llama"))
    repos.adapter("org/a", tag="q/converted-awq", declared="q/converted-awq")
    repos.adapter("org/b", tag="q/base-1b", declared="/tmp/x")
    found = kinds(index, hub)
    assert found == {"q/base-1b": "mirror", "q/base-1b-awq": "mirror", "t/law-fp8": "full"} | (
        dict.fromkeys(("org/a", "org/b"), "adapter")
    )
    assert newest_rows(index, BASE)["org/a", ""].canonical_base == "q/converted-awq"
    assert not [record for record in served.requests if "paths-info" in record.path]


def test_a_merged_model_beside_a_config_that_was_left_behind_is_looked_at_as_well(
    index: Index, hub: Hub, repos: Repos
) -> None:
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": BASE}).encode()
    merged = one_file(changed("model.layers.1.q_proj.weight")) | {"adapter_config.json": config}
    repos.model(COPY, of=BASE, files=merged)
    repos.adapter("org/a", tag=COPY, declared=COPY)
    assert kinds(index, hub) == {COPY: "full", "org/a": "adapter"}
    assert newest_rows(index, BASE)["org/a", ""].canonical_base == COPY
