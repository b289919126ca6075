"""`GET /api/models`, asked by the real client."""

from datetime import UTC, datetime

import pytest
from faults import Fault
from huggingface_hub import HfApi
from huggingface_hub.errors import BadRequestError
from huggingface_hub.utils import get_session

BASE = "meta/base-1b"


def ids(models):
    return [model.id for model in models]


def get(url, **params):
    answer = get_session().get(url, params=params)
    answer.raise_for_status()
    return answer


@pytest.fixture
def family(folder):
    """A base, and what people make of it."""
    folder.add(
        BASE,
        {"config.json": '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'},
        card={"license": "apache-2.0"},
        hub={"createdAt": "2024-01-01T00:00:00Z", "downloads": 900},
    )
    folder.add_adapter("ada/law", hub={"likes": 3, "lastModified": "2025-03-01T10:00:00.123Z"})
    folder.add_adapter("bob/math", hub={"likes": 7, "lastModified": "2025-02-01T10:00:00Z"})
    folder.add_adapter("bob/gated", hub={"gated": "manual", "lastModified": "2025-01-01"})
    folder.add(
        "cyn/tuned",
        {"config.json": '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'},
        card={"base_model": [BASE], "tags": ["chat"], "datasets": ["org/data"], "language": "no"},
        hub={"lastModified": "2024-12-01"},
    )
    return folder


def test_an_entry_has_the_keys_of_the_recorded_one(family, hub, sample):
    recorded = sample("list_default")
    served = get(f"{hub.url}/api/models", filter=f"base_model:finetune:{BASE}", limit=3).json()
    assert [set(entry) for entry in served] == [set(recorded[0])]
    assert list(served[0])[:2] == list(recorded[0])[:2]
    types = {key: type(value) for key, value in recorded[0].items()}
    assert {key: type(value) for key, value in served[0].items()} == types


def test_an_expanded_entry_has_the_keys_of_the_recorded_one(folder, hub, sample, make_safetensors):
    recorded = sample("list_expand")[0]
    folder.add(BASE)
    folder.add(
        "cyn/tuned",
        {
            "config.json": '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}',
            "model.safetensors": make_safetensors({"w": [3, 5]}),
        },
        card={"base_model": BASE},
    )
    asked = sorted(set(recorded) - {"_id", "id"})
    served = get(f"{hub.url}/api/models", expand=asked, filter=f"base_model:{BASE}").json()[0]
    assert set(served) == set(recorded)
    assert set(served["baseModels"]) == set(recorded["baseModels"])
    assert set(served["baseModels"]["models"][0]) == {"_id", "id"}
    assert served["safetensors"] == {"parameters": {"F32": 15}, "total": 15}
    assert served["model-index"] is None


def test_expand_gives_only_what_it_names(family, api):
    (model,) = api.list_models(filter="chat", expand=["sha", "lastModified"])
    assert model.sha is not None
    assert model.last_modified == datetime(2024, 12, 1, tzinfo=UTC)
    assert (model.tags, model.likes, model.siblings) == (None, None, None)


@pytest.mark.parametrize("field", ["childrenModelCount", "usedStorage", "nonsense"])
def test_expand_refuses_what_the_hub_refuses_on_a_listing(family, api, field):
    with pytest.raises(BadRequestError, match="expand"):
        list(api.list_models(expand=[field]))


@pytest.mark.parametrize(
    "params",
    [
        {"expand": "sha", "full": "true"},
        {"sort": "name"},
        {"limit": "0"},
        {"limit": "many"},
        {"gated": "perhaps"},
        {"cursor": "bm90IG91cnM="},
        {"num_parameters": "min:1B"},
    ],
)
def test_a_query_that_cannot_be_answered_is_refused(family, hub, params):
    answer = get_session().get(f"{hub.url}/api/models", params=params)
    assert answer.status_code == 400
    assert next(iter(params)) in answer.json()["error"]


def test_full_adds_what_an_entry_lacks(family, api):
    (short,) = api.list_models(filter="chat")
    (full,) = api.list_models(filter="chat", full=True, cardData=True, fetch_config=True)
    assert (short.sha, short.last_modified, short.gated, short.siblings) == (None,) * 4
    assert full.sha is not None
    assert full.gated is False
    assert [file.rfilename for file in full.siblings] == ["README.md", "config.json"]
    assert full.card_data.base_model == [BASE]
    assert full.config["architectures"] == ["LlamaForCausalLM"]


def test_all_filters_must_hold(family, api):
    adapters = f"base_model:adapter:{BASE}"
    assert set(ids(api.list_models(filter=adapters))) == {"ada/law", "bob/math", "bob/gated"}
    assert ids(api.list_models(filter=[adapters, "chat"])) == []
    assert ids(api.list_models(filter=[f"base_model:{BASE}", "dataset:org/data"])) == ["cyn/tuned"]


def test_author_search_gated_and_task_narrow_the_answer(family, api):
    assert set(ids(api.list_models(author="bob"))) == {"bob/math", "bob/gated"}
    assert ids(api.list_models(search="LAW ada")) == ["ada/law"]
    assert ids(api.list_models(gated=True)) == ["bob/gated"]
    assert "bob/gated" not in ids(api.list_models(gated=False))
    assert set(ids(api.list_models(pipeline_tag="text-generation"))) == {BASE, "cyn/tuned"}


def test_sort_is_descending_with_ties_by_id(family, api):
    newest = api.list_models(filter="peft", sort="last_modified", full=True)
    assert ids(newest) == ["ada/law", "bob/math", "bob/gated"]
    assert ids(api.list_models(filter="peft", sort="likes"))[0] == "bob/math"
    assert ids(api.list_models(sort="downloads", limit=1)) == [BASE]
    tied = [model._id for model in api.list_models(sort="trending_score")]
    assert tied == sorted(tied)


def test_times_have_milliseconds_and_a_z(family, hub):
    entry = get(f"{hub.url}/api/models", search="ada/law", expand="lastModified").json()[0]
    assert entry["lastModified"] == "2025-03-01T10:00:00.123Z"


def test_pages_are_linked_on_our_own_origin_and_complete(folder, hub, api):
    names = {f"org/model-{number:02d}" for number in range(23)}
    for name in names:
        folder.add_adapter(name, hub={"likes": len(name) % 3})
    url, seen, pages = (
        f"{hub.url}/api/models?limit=5&sort=likes&filter=peft&filter=region%3Aus",
        [],
        0,
    )
    while url:
        answer = get_session().get(url)
        seen += [entry["id"] for entry in answer.json()]
        pages += 1
        url = answer.links.get("next", {}).get("url")
        assert url is None or (url.startswith(f"{hub.url}/api/models?") and "filter=region" in url)
    assert (pages, len(seen), set(seen)) == (5, 23, names)
    assert len(list(api.list_models(filter="peft", limit=7))) == 7


def test_the_client_walks_pages_of_a_thousand(folder, hub, api):
    for number in range(1003):
        folder.add(f"org/model-{number}", {"a.txt": ""})
    assert len({model.id for model in api.list_models()}) == 1003
    assert [len(record.query) for record in hub.requests] == [0, 1]


def test_a_repository_renamed_or_deleted_between_pages_breaks_nothing(folder, hub, api):
    for number in range(1, 6):
        folder.add_adapter(f"org/model-{number}", hub={"likes": number})

    def shuffle():
        (folder.place / "org/model-2").rename(folder.place / "org/model-9")
        (folder.place / "org/model-3/.hub.yaml").unlink()

    hub.faults.add(Fault("/api/models", before_answer=shuffle))
    url, seen = f"{hub.url}/api/models?limit=2&sort=likes", []
    while url:
        answer = get_session().get(url)
        seen += [entry["id"] for entry in answer.json()]
        url = answer.links.get("next", {}).get("url")
    assert seen == ["org/model-5", "org/model-4", "org/model-9", "org/model-1", "org/model-3"]


@pytest.mark.parametrize(
    ("card", "files", "relation"),
    [
        ({}, {"adapter_config.json": "{}"}, "adapter"),
        ({"library_name": "peft"}, {}, "adapter"),
        ({}, {"adapter/adapter_config.json": "{}"}, "finetune"),
        ({"base_model_relation": "quantized"}, {"adapter_config.json": "{}"}, "quantized"),
        ({}, {"model.Q4_K_M.gguf": b"GGUF"}, "quantized"),
        (
            {},
            {"config.json": '{"quantization_config": {"quant_method": "bitsandbytes"}}'},
            "quantized",
        ),
        ({"base_model": [BASE, "meta/other"]}, {}, "merge"),
        ({}, {}, "finetune"),
    ],
)
def test_the_relation_follows_the_card_then_the_files(folder, api, card, files, relation):
    folder.add("ada/made", files, card={"base_model": BASE} | card)
    (model,) = api.list_models(filter=[f"base_model:{BASE}", f"base_model:{relation}:{BASE}"])
    assert model.id == "ada/made"


def test_a_renamed_base_is_resolved_in_tags_and_not_in_the_card(folder, api):
    folder.add("old/base", hub={"renamed_to": BASE})
    folder.add(BASE)
    folder.add_adapter("ada/law", base="old/base")
    (model,) = api.list_models(
        filter=f"base_model:adapter:{BASE}", expand=["tags", "cardData", "baseModels"]
    )
    assert "base_model:old/base" not in model.tags
    assert model.card_data.base_model == "old/base"
    assert [base["id"] for base in model.base_models["models"]] == [BASE]
    assert "old/base" not in ids(api.list_models())


@pytest.mark.parametrize("base", ["", "/home/me/models/x", None, ["", "./here"]])
def test_a_base_that_is_no_repository_gives_no_lineage_tag(folder, api, make_adapter_config, base):
    tag = "base_model:adapter:/home/me/models/x"
    folder.add(
        "ada/law",
        {"adapter_config.json": make_adapter_config("/home/me/models/x")},
        card={"base_model": base, "tags": [tag]},
    )
    (model,) = api.list_models(expand=["tags", "config", "cardData", "baseModels"])
    assert [name for name in model.tags if name.startswith("base_model:")] == [tag]
    assert model.config["peft"] == {
        "base_model_name_or_path": "/home/me/models/x",
        "task_type": "CAUSAL_LM",
    }
    assert model.base_models is None


def test_base_models_lists_only_bases_that_exist_here(folder, api):
    folder.add_adapter("ada/law", base="gone/base")
    (model,) = api.list_models(expand=["baseModels", "tags"])
    assert model.base_models is None
    assert "base_model:adapter:gone/base" in model.tags


def test_tags_come_from_everything_a_repository_declares(folder, api, make_safetensors):
    folder.add(
        "ada/law",
        {
            "README.md": "---\nbase_model: meta/base-1b\nlicense: mit\nlanguage: [en, no]\n"
            "datasets: org/data\ntags: [legal]\npipeline_tag: text-generation\n"
            "released: 2024-05-01\n"
            "model-index: [{name: law}]\n---\nSee https://arxiv.org/abs/2509.04442\n",
            "adapter_config.json": "{}",
            "adapter_model.safetensors": make_safetensors({}),
        },
    )
    (model,) = api.list_models(cardData=True)
    assert model.tags == [
        "peft",
        "safetensors",
        "text-generation",
        "legal",
        "en",
        "no",
        "dataset:org/data",
        "arxiv:2509.04442",
        "base_model:meta/base-1b",
        "base_model:adapter:meta/base-1b",
        "license:mit",
        "model-index",
        "region:us",
    ]
    assert model.card_data.released == "2024-05-01"


def test_dates_default_to_the_files(folder, api, touch):
    place = folder.add_adapter("ada/law")
    touch(place, datetime(2025, 6, 1, 12, tzinfo=UTC))
    (model,) = api.list_models(full=True)
    assert model.last_modified == model.created_at == datetime(2025, 6, 1, 12, tzinfo=UTC)


def test_headers_are_those_of_the_hub(family, hub):
    headers = get(f"{hub.url}/api/models", limit=1).headers
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["ETag"].startswith('W/"')
    assert headers["X-Request-Id"].startswith("Root=1-")
    assert headers["RateLimit"] == '"api";r=500;t=300'
    assert headers["RateLimit-Policy"] == '"fixed window";"api";q=500;w=300'


def test_tokens_are_not_kept_in_the_record_of_requests(family, hub):
    list(HfApi(endpoint=hub.url, token="hf_secret").list_models())
    assert [record.headers["authorization"] for record in hub.requests] == ["Bearer ***"]
    assert hub.requests[0].status == 200
