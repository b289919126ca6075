"""Downloads ahead of the computation: bounded, in order of arrival, and never in the way."""

import json
import threading
import time
from dataclasses import replace
from threading import Event

import pytest
from hubs import BASE, add_adapter, add_base
from rows import catalog_row

from hubdelta.crawler.describe import describe
from hubdelta.crawler.hub import Hub, HubSettings
from hubdelta.crawler.local_hub import Fault, LocalHub
from hubdelta.indexer.batches import batches
from hubdelta.indexer.obtain import Obtainer
from hubdelta.indexer.plan import Pending
from hubdelta.schemas.errors import AdapterError, Reason
from hubdelta.schemas.keys import AdapterName

NAMES = [f"a/adapter-{n}" for n in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_base):
    hub = tmp_path_factory.mktemp("hub")
    add_base(hub, tiny_base)
    for seed, name in enumerate(NAMES):
        add_adapter(hub, tiny_base, name, seed=seed)
    return hub


@pytest.fixture
def local_hub(folder):
    with LocalHub(folder) as running:
        yield running


@pytest.fixture
def hub(local_hub):
    with Hub(HubSettings(endpoint=local_hub.url, first_wait=0.01, longest_wait=0.02)) as hub:
        yield hub


@pytest.fixture
def pending(hub):
    return [Pending(describe(hub, AdapterName(name), BASE)[0], 1) for name in NAMES]


@pytest.fixture
def obtainer(hub, base, tmp_path):
    return Obtainer(hub, base, tmp_path / "downloads", max_bytes=10**9)


def gather(pending, obtainer, **options):
    settings = {"batch_size": 4, "workers": 2, "budget": 10**9, "stop": Event()} | options
    return list(batches(pending, obtainer, **settings))


def test_everything_arrives_once_and_nothing_stays_on_disk(pending, obtainer):
    arrived = gather(pending, obtainer)
    assert sum(len(batch) for batch in arrived) == len(NAMES)
    assert max(len(batch) for batch in arrived) <= 4
    assert {o.pending.row.repo_id for batch in arrived for o in batch} == set(NAMES)
    assert not [path for path in obtainer.folder.rglob("*") if path.is_file()]


def test_a_slow_consumer_gets_no_larger_batches(pending, obtainer):
    sizes = []
    for batch in batches(pending, obtainer, batch_size=2, workers=4, budget=10**9, stop=Event()):
        sizes.append(len(batch))
        time.sleep(0.3)
    assert sizes == [2, 2, 2]


def test_a_budget_of_one_adapter_makes_small_batches_and_never_blocks(pending, obtainer):
    size = obtainer.inspect(pending[0]).memory_bytes
    arrived = gather(pending, obtainer, budget=size + 1)
    assert [len(batch) for batch in arrived] == [1] * len(NAMES)


def test_a_slow_download_delays_nobody(pending, obtainer, local_hub):
    local_hub.faults.add(Fault(f"*{NAMES[0]}*safetensors*", delay=1.0))
    arrived = gather(pending, obtainer, batch_size=1)
    assert arrived[-1][0].pending.row.repo_id == NAMES[0]


def test_what_cannot_be_obtained_arrives_as_its_error(pending, obtainer, local_hub):
    local_hub.faults.add(Fault(f"*{NAMES[1]}*safetensors*", status=503, times=None))
    errors = {
        obtained.pending.row.repo_id: obtained.result.reason
        for batch in gather(pending, obtainer)
        for obtained in batch
        if isinstance(obtained.result, AdapterError)
    }
    assert errors == {NAMES[1]: Reason.NETWORK}


def test_a_stop_is_heeded_while_downloads_hang(pending, obtainer, local_hub):
    local_hub.faults.add(Fault("*", delay=2, times=None))
    stop, began = Event(), time.monotonic()
    stop.set()
    assert gather(pending, obtainer, stop=stop) == []
    assert time.monotonic() - began < 1
    local_hub.faults.clear()
    while any(thread.name.startswith("hubdelta-download") for thread in threading.enumerate()):
        time.sleep(0.1)


def test_weights_that_are_too_large_or_do_not_fit_are_not_downloaded(
    pending, obtainer, hub, local_hub, tmp_path
):
    small = Obtainer(hub, obtainer.base, tmp_path / "d", max_bytes=100)
    other = Obtainer(
        hub,
        replace(obtainer.base, shapes={"model.layers.0.self_attn.q_proj": (7, 7)}),
        tmp_path / "e",
        10**9,
    )
    for refused, reason in ((small, Reason.TOO_LARGE), (other, Reason.BASE_MISMATCH)):
        with pytest.raises(AdapterError) as caught:
            refused.inspect(pending[0])
        assert caught.value.reason is reason
    fetched = [r for r in local_hub.requests if "safetensors" in r.path and r.method == "GET"]
    assert all("range" in {name.lower() for name in dict(r.headers)} for r in fetched)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (catalog_row(disabled=True), Reason.DISABLED),
        (catalog_row(weights_files=[]), Reason.NO_WEIGHTS),
        (catalog_row(canonical_base="other/base"), Reason.BASE_MISMATCH),
    ],
)
def test_what_the_catalog_settles_costs_no_request(row, reason, obtainer, local_hub):
    with pytest.raises(AdapterError) as caught:
        obtainer.inspect(Pending(row, 1))
    assert caught.value.reason is reason
    assert local_hub.requests == []


def test_kept_downloads_stay(pending, hub, base, tmp_path):
    keeping = Obtainer(hub, base, tmp_path / "kept", 10**9, keep=True)
    gather(pending[:1], keeping)
    (kept,) = keeping.folder.iterdir()
    assert sorted(path.name for path in kept.iterdir() if path.name[0] != ".") == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_path_that_leads_out_of_the_folder_is_refused_and_the_others_arrive(pending, obtainer):
    hostile = replace(pending[0].row, subfolder="../..", weights_files=["../../x.safetensors"])
    arrived = [
        obtained
        for batch in gather([Pending(hostile, 1), *pending[1:]], obtainer)
        for obtained in batch
    ]
    refused = [o.pending.row.repo_id for o in arrived if isinstance(o.result, AdapterError)]
    assert refused == [NAMES[0]]
    assert len(arrived) == len(NAMES)
    assert not list(obtainer.folder.parent.parent.rglob("x.safetensors"))


def test_a_config_of_absurd_size_or_rank_is_not_taken_in(pending, obtainer, folder):
    huge, greedy = folder / NAMES[1], folder / NAMES[2]
    configs = {place: (place / "adapter_config.json").read_text() for place in (huge, greedy)}
    try:
        (huge / "adapter_config.json").write_text(configs[huge] + " " * (2 << 20))
        values = json.loads(configs[greedy]) | {"r": 3_000_000}
        (greedy / "adapter_config.json").write_text(json.dumps(values))
        for name in NAMES[1:3]:
            (row,) = describe(obtainer.hub, AdapterName(name), BASE)
            with pytest.raises(AdapterError) as caught:
                obtainer.inspect(Pending(row, 1))
            assert caught.value.reason is Reason.CORRUPT
    finally:
        for place, text in configs.items():
            (place / "adapter_config.json").write_text(text)
