"""What a crawl finds, and which base it concludes each repository to belong to."""

import json
import logging
from collections.abc import Iterator
from typing import ClassVar

import pytest
from faults import Fault, FaultyHub
from small_repos import BASE, Repos, tensors

from hubdelta.crawler.base_names import plain_name
from hubdelta.crawler.crawl import crawl
from hubdelta.crawler.entry import read_entry
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.crawler.ledger import newest_rows
from hubdelta.crawler.lineage import BaseFamily, Conclusion, conclude
from hubdelta.schemas.index import Index
from hubdelta.schemas.rows import CatalogRow

MIRROR = "quant/base-1b-bnb-4bit"


def found(index: Index, hub: Hub, base: str = BASE) -> dict[str, CatalogRow]:
    """Crawl, and give the newest row of each repository by its name."""
    summary = crawl(index, hub, base)
    return {key[0]: row for key, row in newest_rows(index, summary.base).items()}


def test_a_row_holds_all_that_the_listing_said(index: Index, hub: Hub, repos: Repos) -> None:
    card = {"datasets": ["squad"], "language": ["en"], "tags": ["maths"], "license": "mit"}
    repos.adapter("org/a", card=card, downloads=7, likes=3, gated="auto")
    row = found(index, hub)["org/a"]
    assert (row.kind, row.relation, row.subfolder) == ("adapter", "adapter", "")
    assert (row.canonical_base, row.evidence, row.via, row.declared_base) == (
        BASE,
        "tag",
        None,
        BASE,
    )
    assert (row.weights_files, row.author, row.task_type) == (
        ["adapter_model.safetensors"],
        "org",
        "CAUSAL_LM",
    )
    assert (row.downloads, row.likes, row.gated, row.license) == (7, 3, "auto", "mit")
    assert (row.datasets, row.languages, row.library_name) == (["squad"], ["en"], "peft")
    assert "maths" in row.tags
    assert row.last_modified == repos.now
    assert len(row.revision) == 40


@pytest.mark.parametrize(
    "declared", [BASE, "META/Base-1B", None, "", "/home/me/models/x", "C:\\models\\x", 7]
)
def test_the_tag_holds_where_the_config_says_nothing_else(
    index: Index, hub: Hub, repos: Repos, declared: object
) -> None:
    repos.adapter("org/a", declared=declared)
    row = found(index, hub)["org/a"]
    assert (row.canonical_base, row.evidence, row.via) == (BASE, "tag", None)


def test_a_declared_base_that_is_not_to_be_seen_is_told_by_its_name(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a", declared="gone/Base-1B-bnb-4bit")
    repos.adapter("org/b", declared="gone/merge")
    repos.adapter("org/c", declared="gone/merge")
    rows = found(index, hub)
    assert rows["org/a"].canonical_base == BASE
    assert rows["org/b"].canonical_base == rows["org/c"].canonical_base == "gone/merge"
    asked = [record for record in served.requests if record.path == "/api/models/gone/merge"]
    assert len(asked) == 1, "one request for each distinct name"


def test_the_config_goes_over_the_tag_when_it_names_another_base(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model("other/base-7b")
    repos.adapter("org/a", declared="other/base-7b")
    row = found(index, hub)["org/a"]
    assert (row.base, row.canonical_base, row.evidence) == (BASE, "other/base-7b", "peft_config")


def test_the_roots_config_says_nothing_of_adapters_in_folders(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model("other/base-7b")
    repos.adapter("org/a", declared="other/base-7b")
    repos.adapter("org/a", declared=BASE, folder="mine/")
    repos.adapter("org/a", declared="other/base-7b")
    crawl(index, hub, BASE)
    rows = {key[1]: row for key, row in newest_rows(index, BASE).items() if key[0] == "org/a"}
    assert {folder: row.canonical_base for folder, row in rows.items()} == {
        "": "other/base-7b",
        "mine": BASE,
    }
    assert rows["mine"].declared_base is None


def test_an_old_name_of_the_base_is_the_base(index: Index, hub: Hub, repos: Repos) -> None:
    repos.add("old/base", renamed_to=BASE)
    repos.adapter("org/a", declared="old/base")
    row = found(index, hub)["org/a"]
    assert (row.canonical_base, row.evidence, row.declared_base) == (BASE, "tag", "old/base")


def test_an_old_name_of_the_base_is_still_the_base_in_the_next_crawl(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.add("meta/first-name", renamed_to=BASE)
    repos.adapter("org/old", declared="meta/first-name")
    found(index, hub)
    repos.adapter("org/old", declared="meta/first-name", card={"datasets": ["new"]})
    repos.adapter("org/new", declared="meta/first-name")
    repos.adapter("org/stray", tag=None, declared="meta/first-name")
    before = len(served.requests)
    rows = found(index, hub)
    assert {name: (row.canonical_base, row.evidence, row.via) for name, row in rows.items()} == {
        "org/old": (BASE, "tag", None),
        "org/new": (BASE, "tag", None),
        "org/stray": (BASE, "peft_config", None),
    }
    assert {record.path for record in served.requests[before:]} == {
        f"/api/models/{BASE}",
        "/api/models",
    }


def test_a_name_that_was_not_to_be_seen_is_asked_for_again(
    index: Index, hub: Hub, repos: Repos
) -> None:
    for name in ("hidden/Base-1B", "hidden/merge"):
        repos.adapter(f"org/{name[-5:]}", declared=name)
    repos.adapter("org/path", declared="base")
    found(index, hub)
    repos.model("other/base-7b")
    for name in ("hidden/Base-1B", "hidden/merge"):
        repos.add(name, renamed_to="other/base-7b")
        repos.adapter(f"org/{name[-5:]}", declared=name, card={"datasets": ["new"]})
    rows = found(index, hub)
    assert rows["org/se-1B"].canonical_base == rows["org/merge"].canonical_base == "other/base-7b"


def test_the_mirror_of_a_tag_is_not_taken_for_what_a_config_names(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model(MIRROR, of=BASE, relation="quantized")
    repos.add("meta/first-name", renamed_to=BASE)
    repos.adapter("org/a", tag=MIRROR, declared="meta/first-name")
    assert found(index, hub)["org/a"].via == MIRROR
    repos.adapter("org/b", declared="meta/first-name")
    assert found(index, hub)["org/b"].via is None


def test_a_declared_name_that_the_hub_refuses_costs_nothing(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.adapter("org/a", declared="a--b/base-1b")
    served.faults.add(Fault("/api/models/a--b/base-1b", status=400, times=None))
    assert found(index, hub)["org/a"].canonical_base == BASE


def test_a_renamed_base_is_crawled_under_its_new_name(
    index: Index, hub: Hub, repos: Repos, caplog: pytest.LogCaptureFixture
) -> None:
    repos.add("old/base", renamed_to=BASE)
    repos.adapter("org/a", tag=None, declared="old/base")
    with caplog.at_level(logging.WARNING):
        row = found(index, hub, "old/base")["org/a"]
    assert (row.base, row.canonical_base) == (BASE, BASE)
    assert f"old/base is now called {BASE}" in caplog.text


def test_adapters_of_a_quantized_mirror_are_the_bases(index: Index, hub: Hub, repos: Repos) -> None:
    repos.model(MIRROR, of=BASE, relation="quantized")
    repos.adapter("org/a", tag=MIRROR, declared=MIRROR)
    repos.adapter("org/b", tag=BASE, declared=MIRROR)
    repos.adapter("org/c", tag=MIRROR, declared="/tmp/x")
    rows = found(index, hub)
    for name in ("org/a", "org/b", "org/c"):
        row = rows[name]
        assert (row.canonical_base, row.evidence, row.via) == (BASE, "mirror", MIRROR), name
    assert (rows[MIRROR].kind, rows[MIRROR].relation) == ("mirror", "quantized")


def test_adapters_of_a_reupload_and_of_its_quantized_copies_are_the_bases(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model("copy/Base-1B", of=BASE)
    repos.model("copy/Base-1B-bnb-4bit", of="copy/Base-1B", relation="quantized")
    repos.adapter("org/a", tag="copy/Base-1B", declared="copy/Base-1B")
    repos.adapter("org/b", tag="copy/Base-1B-bnb-4bit", declared="copy/Base-1B-bnb-4bit")
    rows = found(index, hub)
    assert (rows["org/a"].via, rows["org/b"].via) == ("copy/Base-1B", "copy/Base-1B-bnb-4bit")
    assert {rows[name].kind for name in ("copy/Base-1B", "copy/Base-1B-bnb-4bit")} == {"mirror"}


def test_a_mirror_that_only_a_config_names_is_looked_up(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.model("q/unlisted", of=BASE, relation="quantized")
    repos.add("q/old-name", renamed_to="q/unlisted")
    repos.adapter("org/a", declared="q/old-name")
    row = found(index, hub)["org/a"]
    assert (row.canonical_base, row.evidence, row.via) == (BASE, "mirror", "q/unlisted")


def test_gguf_copies_are_no_mirrors(index: Index, hub: Hub, repos: Repos) -> None:
    repos.model("q/base-1b-GGUF", of=BASE, files={"base.Q4_K_M.gguf": b"GGUF"})
    assert found(index, hub) == {}


def test_mirrors_are_known_to_the_next_crawl(
    index: Index, hub: Hub, repos: Repos, served: FaultyHub
) -> None:
    repos.model(MIRROR, of=BASE, relation="quantized")
    for number in range(3):  # newer quantized repositories: the mirror is below the mark
        repos.model(f"q/gguf-{number}", of=BASE, files={"base.gguf": b"GGUF"})
    found(index, hub)
    repos.adapter("org/late", tag=None, declared=MIRROR)
    row = found(index, hub)["org/late"]
    assert (row.canonical_base, row.evidence, row.via) == (BASE, "peft_config", MIRROR)


@pytest.mark.parametrize("tag", [None, "other/base-7b", "", "/home/me/models/base-1b"])
def test_the_config_alone_is_enough_where_tags_are_missing_or_others(
    index: Index, hub: Hub, repos: Repos, tag: str | None
) -> None:
    repos.adapter("org/a", tag=tag, declared=BASE)
    row = found(index, hub)["org/a"]
    assert (row.canonical_base, row.evidence) == (BASE, "peft_config")


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/models/base-1b",
        "./Base-1B/",
        "D:\\models\\base-1b",
        " /models/base-1b\n",
        "/models/base-1b-bnb-4bit",
        "/data/meta_base-1b",
        "./meta--base-1b",
        "/home/me/.cache/huggingface/hub/models--meta--base-1b/snapshots/0123abc",
        "/models/base-1b/snapshots/master",
        "/kaggle/input/base/transformers/1b/1",
        "/home/me/.cache/kagglehub/models/meta/base/pyTorch/base-1b/2",
        "/kaggle/input/base-1b-hf",
    ],
)
def test_a_local_path_that_ends_in_the_bases_name_is_taken_for_it(
    index: Index, hub: Hub, repos: Repos, path: str
) -> None:
    repos.adapter("org/a", tag=None, declared=path)
    repos.adapter("org/b", tag=None, declared="/models/other-7b")
    repos.adapter("org/c", tag="other/base-1b", declared="/models/base-1b")
    repos.adapter("org/d", tag=None, declared="/models/base-1b/checkpoint-500")
    repos.adapter("org/e", tag=None, declared="/cache/models--other--base-1b/snapshots/0123abc")
    rows = found(index, hub)
    assert set(rows) == {"org/a"}
    assert (rows["org/a"].canonical_base, rows["org/a"].evidence) == (BASE, "local_path")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        # As ModelScope's library writes the folders of its cache.
        ("/home/me/.cache/modelscope/hub/Qwen/Qwen2___5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        (
            "/mnt/workspace/.cache/modelscope/models/Qwen/Qwen2___5-7B-Instruct/",
            "Qwen/Qwen2.5-7B-Instruct",
        ),
        (
            "/home/me/.cache/modelscope/hub/models--Qwen--Qwen3-0___6B/snapshots/master",
            "Qwen/Qwen3-0.6B",
        ),
        # As Kaggle mounts models: MODEL/FRAMEWORK/VARIATION/VERSION.
        ("/kaggle/input/qwen2.5/transformers/7b-instruct/1", "Qwen/Qwen2.5-7B-Instruct"),
        ("/kaggle/input/qwen-3/transformers/0.6b/1", "Qwen/Qwen3-0.6B"),
        ("/kaggle/input/llama-2/pytorch/7b-chat-hf/1", "meta-llama/Llama-2-7b-chat-hf"),
        ("/kaggle/input/gemma-2/transformers/gemma-2-2b-it/2", "google/gemma-2-2b-it"),
        (
            "/kaggle/input/mistral/pytorch/7b-instruct-v0.1-hf/1",
            "mistralai/Mistral-7B-Instruct-v0.1",
        ),
        ("/kaggle/input/phi/transformers/2/1", "microsoft/phi-2"),
        ("Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("/data/Qwen_Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct"),
    ],
)
def test_caches_have_spellings_of_their_own(path: str, name: str) -> None:
    names = ["Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen3-0.6B", "Qwen/Qwen2-57B-Instruct", name]
    names += ["google/gemma-2-2b-it", "google/gemma-2b-it", "microsoft/phi-2", "microsoft/phi-1"]
    raw = {"id": "org/a", "sha": "0" * 40}
    raw |= {"config": {"peft": {"base_model_name_or_path": path}}}
    for base in dict.fromkeys(names):
        conclusion = conclude(read_entry(raw), BaseFamily(base), lambda name: None)
        wanted = Conclusion(base, "local_path") if base == name else None
        assert conclusion == wanted, base


@pytest.mark.parametrize(
    "text",
    [
        " meta/base-1b ",
        "meta/base-1b/",
        "https://huggingface.co/meta/base-1b",
        "https://huggingface.co/Meta/Base-1B/tree/main",
        "huggingface.co/meta/base-1b",
        "https://hf-mirror.com/meta/base-1b?library=peft",
        "https://www.modelscope.cn/models/meta/base-1b",
        "https://huggingface.co/meta/base-1b.git",
        "hf://meta/base-1b",
    ],
)
def test_a_name_may_be_a_url_or_stand_among_blanks(
    index: Index, hub: Hub, repos: Repos, text: str
) -> None:
    repos.adapter("org/config", tag=None, declared=text)
    repos.adapter("org/card", tag=text, declared="/workspace/out")
    repos.adapter("org/tagged", declared=text)
    rows = found(index, hub)
    assert {name: (row.canonical_base, row.evidence) for name, row in rows.items()} == {
        "org/config": (BASE, "peft_config"),
        "org/card": (BASE, "card"),
        "org/tagged": (BASE, "tag"),
    }
    assert rows["org/config"].declared_base == text, "as written"


def test_the_card_is_evidence_where_the_hub_made_no_tag_of_it() -> None:
    raw = {"id": "org/a", "sha": "0" * 40, "cardData": {"base_model": [MIRROR, "other/x"]}}
    conclusion = conclude(read_entry(raw), BaseFamily(BASE, mirrors=[MIRROR]), lambda name: None)
    assert conclusion == Conclusion(BASE, "card", MIRROR)


def test_adapters_in_subfolders_have_a_row_each(index: Index, hub: Hub, repos: Repos) -> None:
    config = json.dumps({"base_model_name_or_path": BASE}).encode()
    files = {
        f"{folder}/{name}": content
        for folder in ("one", "two/deep")
        for name, content in (
            ("adapter_config.json", config),
            ("adapter_model.safetensors", tensors()),
        )
    }
    repos.model("org/two", of=BASE, files=files)
    crawl(index, hub, BASE)
    rows = newest_rows(index, BASE)
    assert {key: row.kind for key, row in rows.items()} == {
        ("org/two", "one"): "adapter",
        ("org/two", "two/deep"): "adapter",
    }
    assert rows["org/two", "one"].relation == "finetune"


WHOLE = ("config.json", "model.safetensors")
PEFT = ("adapter_config.json", "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("places", "kinds"),
    [
        ({"": WHOLE, "adapter/": PEFT}, {"": "full", "adapter": "adapter"}),
        ({"": PEFT, "merged/": WHOLE}, {"": "adapter", "merged": "full"}),
        ({"merged/": WHOLE, "lora/": PEFT}, {"merged": "full", "lora": "adapter"}),
        ({"": (*WHOLE, *PEFT)}, {"": "adapter"}),
        ({"": WHOLE, "lora/": PEFT[:1]}, {"": "full"}),
        ({"": WHOLE, "checkpoint-9/": PEFT}, {"": "full"}),
        ({"": PEFT, "checkpoint-9/": WHOLE}, {"": "adapter"}),
    ],
)
def test_a_whole_model_and_adapters_of_one_repository_have_a_row_each(
    places: dict[str, tuple[str, ...]],
    kinds: dict[str, str],
    index: Index,
    hub: Hub,
    repos: Repos,
) -> None:
    files = {f"{folder}{name}": b"{}" for folder, names in places.items() for name in names}
    repos.model("org/both", of=BASE, relation="finetune", files=files)
    crawl(index, hub, BASE)
    rows = newest_rows(index, BASE)
    assert {folder: row.kind for (_, folder), row in rows.items()} == kinds
    if "full" in kinds.values():
        as_kinds = {"full": "finetune", "adapter": "adapter"}
        assert all(row.relation == as_kinds[row.kind] for row in rows.values())
    assert crawl(index, hub, BASE, relations=("adapter",), full=True).vanished == 0


def test_an_adapter_beside_merged_weights_that_are_no_finetune_is_a_row(
    index: Index, hub: Hub, repos: Repos
) -> None:
    files = dict.fromkeys(WHOLE, b"{}")
    card = {"base_model_relation": "merge"}
    repos.adapter("org/merge", folder="lora/", files=files, card=card)
    crawl(index, hub, BASE)
    assert {folder: row.kind for (_, folder), row in newest_rows(index, BASE).items()} == {
        "lora": "adapter"
    }


def test_whole_models_and_missing_weights_have_rows(index: Index, hub: Hub, repos: Repos) -> None:
    repos.model("org/full", of=BASE)
    repos.model("org/bin", of=BASE, files={"pytorch_model.bin": b"x", "config.json": b"{}"})
    repos.add("org/empty", {}, card={"base_model": BASE, "library_name": "peft"})
    rows = found(index, hub)
    assert (rows["org/full"].kind, rows["org/full"].weights_files) == (
        "full",
        ["model.safetensors"],
    )
    assert (rows["org/bin"].kind, rows["org/bin"].weights_files) == ("full", ["pytorch_model.bin"])
    assert (rows["org/empty"].kind, rows["org/empty"].weights_files) == ("adapter", [])


def test_only_the_relations_asked_for_are_cataloged(index: Index, hub: Hub, repos: Repos) -> None:
    repos.model("org/full", of=BASE)
    repos.adapter("org/a")
    crawl(index, hub, BASE, relations=("adapter",))
    assert set(newest_rows(index, BASE)) == {("org/a", "")}
    crawl(index, hub, BASE, relations=("finetune",))
    assert set(newest_rows(index, BASE)) == {("org/a", ""), ("org/full", "")}


def test_disabled_gated_and_html_names_are_rows_as_seen(
    index: Index, hub: Hub, repos: Repos
) -> None:
    repos.adapter("org/off", disabled=True)
    repos.adapter("org/gate", gated=True)
    repos.adapter("org/html", card={"datasets": ["<script>alert('x')</script>", 'a"b']})
    rows = found(index, hub)
    assert rows["org/off"].disabled
    assert rows["org/gate"].gated == "manual"
    assert rows["org/html"].datasets == ["<script>alert('x')</script>", 'a"b']


@pytest.mark.parametrize(
    "card",
    [
        {"datasets": "one", "language": 3, "license": ["mit", "other"], "tags": "x"},
        {"datasets": {"a": 1}, "language": None, "license": {"id": 1}, "tags": 5},
        {"self": 1, "ignore_metadata_errors": True, "model-index": "broken", "eval_results": 3},
    ],
)
def test_a_hostile_card_costs_nothing_but_its_own_fields(
    index: Index, hub: Hub, repos: Repos, card: dict[str, object]
) -> None:
    repos.adapter("org/before")
    repos.adapter("org/hostile", card=card)
    repos.adapter("org/after")
    assert set(found(index, hub)) == {"org/before", "org/hostile", "org/after"}


def test_hostile_paths_cost_nothing_but_themselves(
    index: Index, hub: Hub, repos: Repos, caplog: pytest.LogCaptureFixture
) -> None:
    repos.adapter("org/before")
    repos.adapter("org/hostile", folder="\x1b[2J/")
    repos.adapter("org/hostile", folder=f"checkpoint-{'9' * 100}/")
    repos.adapter("org/hostile", folder="line\nbreak/")
    repos.adapter("org/hostile")
    with caplog.at_level(logging.DEBUG):
        summary = crawl(index, hub, BASE)
    assert summary.listed == 2
    assert set(newest_rows(index, BASE)) == {("org/before", ""), ("org/hostile", "")}
    assert "org/hostile: skipped a file" in caplog.text
    assert "\x1b" not in caplog.text


class HostileHub(Hub):
    """The Hub, with one more entry on top of each listing, such as our own would not serve."""

    entry: ClassVar[object]

    def listing(self, tag: str, *, page_size: int | None = None) -> Iterator[object]:
        yield self.entry
        yield from super().listing(tag, page_size=page_size)


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J", "a\0b", "x" * 100_000, "\udcff/../\ud800"])
def test_a_hostile_entry_is_a_row_or_left_out_and_ends_no_crawl(
    index: Index, settings: HubSettings, repos: Repos, text: str
) -> None:
    repos.adapter("org/a")
    card = {key: [text, BASE] for key in ("base_model", "datasets", "language", "license")}
    texts = dict.fromkeys(["author", "gated", "library_name", "pipeline_tag"], text)
    files = [f"{text}/adapter_model.safetensors", text, "adapter_config.json"]
    hostile = texts | {
        "id": "org/hostile",
        "sha": "0" * 40,
        "lastModified": text,
        "cardData": card,
        "config": {"peft": {"base_model_name_or_path": text, "task_type": text}},
        "tags": [text, f"base_model:adapter:{text}", f"base_model:adapter:{BASE}"],
        "siblings": [{"rfilename": path} for path in files],
    }
    with HostileHub(settings) as hub:
        for more in ({}, {"id": text}, {"id": f"org/{text}"}, {"sha": text}, {"siblings": text}):
            HostileHub.entry = hostile | more
            assert "org/a" in found(index, hub)
    assert set(newest_rows(index, BASE)) == {("org/a", ""), ("org/hostile", "")}


@pytest.mark.parametrize(
    "name",
    [
        "unsloth/Llama-3.1-8B-Instruct-bnb-4bit",
        "unsloth/Llama-3.1-8B-Instruct-unsloth-bnb-4bit",
        "x/llama-3.1-8b-instruct-AWQ-INT4",
        "x/Llama-3.1-8B-Instruct-GPTQ-Int4",
        "x/Llama-3.1-8B-Instruct-FP8-dynamic",
        "mlx/Llama-3.1-8B-Instruct-4bit",
        "nm/Llama-3.1-8B-Instruct-w8a8",
    ],
)
def test_names_of_copies_are_recognized(name: str) -> None:
    assert plain_name(name) == plain_name("meta-llama/Llama-3.1-8B-Instruct")


@pytest.mark.parametrize("name", ["x/Llama-3.1-8B", "x/Llama-3.1-8B-Instruct-ft", "x/4bit"])
def test_names_of_other_models_are_not_those_of_copies(name: str) -> None:
    assert plain_name(name) != plain_name("meta-llama/Llama-3.1-8B-Instruct")
