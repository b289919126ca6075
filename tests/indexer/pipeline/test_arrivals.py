"""Downloads ahead of the computation: bounded, in order of arrival, and never in the way."""

import json
import threading
import time
from dataclasses import replace
from threading import Event

import pytest
from faults import Fault
from hubs import BASE
from huggingface_hub import constants
from rows import catalog_row

from hubdelta.crawler import downloads
from hubdelta.crawler.describe import describe
from hubdelta.indexer.adapters.loading import Obtainer
from hubdelta.indexer.adapters.pending import Pending
from hubdelta.indexer.pipeline.arrivals import Arrivals, Budget
from hubdelta.indexer.pipeline.timings import Stages
from hubdelta.schemas.errors import AdapterError, HubError, Reason
from hubdelta.schemas.keys import AdapterName


def arrivals(pending, obtainer, *, budget=10**9, workers=2, ahead=100, stop=None):
    return Arrivals(
        pending,
        obtainer,
        budget=budget if isinstance(budget, Budget) else Budget(budget),
        workers=workers,
        ahead=ahead,
        stages=Stages(),
        stop=stop or Event(),
    )


def gather(pending, obtainer, *, most=4, **options):
    """All windows, each released as soon as it is given."""
    arriving = arrivals(pending, obtainer, **options)
    windows = []
    for window in arriving.windows(most):
        windows.append(window)
        arriving.release(window)
    return windows


def wait_until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about in 10 seconds")


def test_everything_arrives_once_and_nothing_stays_on_disk(pending, obtainer, names):
    arrived = gather(pending, obtainer)
    assert max(len(window) for window in arrived) <= 4
    assert sorted(o.pending.row.repo_id for window in arrived for o in window) == names
    assert not [path for path in obtainer.folder.rglob("*") if path.is_file()]


def test_what_is_there_is_given_without_waiting_for_more(pending, obtainer, local_hub, names):
    local_hub.faults.add(Fault(f"*{names[0]}*safetensors*", delay=1.0))
    windows = gather(pending, obtainer, workers=1)
    assert [o.pending.row.repo_id for o in windows[0]] == [names[0]]
    assert len(windows) > 2


def test_more_gathers_while_a_window_is_computed(pending, obtainer, names):
    arriving, sizes = arrivals(pending, obtainer), []
    for window in arriving.windows(100):
        sizes.append(len(window))
        if len(sizes) == 1:
            wait_until(lambda: len(arriving._there) == len(names) - sizes[0])
        arriving.release(window)
    assert sizes == [sizes[0], len(names) - sizes[0]]


def test_while_there_is_work_a_window_is_filled_first(pending, obtainer, names):
    arriving = arrivals(pending, obtainer)
    windows = arriving.windows(3)
    first = next(windows)
    arriving.step_made()
    second = next(windows)
    assert len(second) == 3
    rest = []
    threading.Timer(0.3, arriving.step_computed).start()
    for window in windows:
        rest += window
    assert len(first) + len(second) + len(rest) == len(names)


def test_a_budget_of_one_adapter_lets_one_in_at_a_time_and_never_blocks(pending, obtainer, names):
    size = obtainer.inspect(pending[0]).memory_bytes
    arriving = arrivals(pending, obtainer, budget=size + 1, workers=4)
    sizes = []
    for window in arriving.windows(100):
        time.sleep(0.1)
        sizes.append(len(window))
        assert not arriving._there, "another one came in before this one was released"
        arriving.release(window)
    assert sizes == [1] * len(names)


def test_two_sorts_of_arrivals_share_a_budget(pending, obtainer):
    budget = Budget(1)
    first = arrivals(pending[:1], obtainer, budget=budget)
    (window,) = next(first.windows(1))
    second = arrivals(pending[1:2], obtainer, budget=budget)
    wait_until(lambda: second._parked)
    time.sleep(0.2)
    assert not second._there
    first.release([window])
    (given,) = next(second.windows(1))
    assert given.pending is pending[1]


def test_no_more_are_in_hand_than_allowed(pending, obtainer, local_hub, names):
    arriving = arrivals(pending, obtainer, ahead=2)
    windows = arriving.windows(100)
    first = next(windows)
    wait_until(lambda: len(arriving._there) + len(first) == 2)
    time.sleep(0.3)
    assert len(arriving._there) + len(first) == 2
    arriving.release(first)
    rest = []
    for window in windows:
        rest += window
        arriving.release(window)
    assert len(first) + len(rest) == len(names)


def test_a_slow_download_delays_nobody(pending, obtainer, local_hub, names):
    local_hub.faults.add(Fault(f"*{names[0]}*safetensors*", delay=1.0))
    arrived = gather(pending, obtainer, most=1)
    assert arrived[-1][0].pending.row.repo_id == names[0]


def test_a_hub_that_may_not_be_asked_ends_it(pending, obtainer, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError):
        gather(pending, obtainer)


def test_a_hub_that_is_gone_ends_it_before_every_adapter_has_found_out(
    pending, obtainer, local_hub
):
    local_hub.faults.add(Fault("*", status=503, times=None))
    many = [replace(one, attempt=n) for n in range(20) for one in pending]
    given = []

    def take(arriving):
        for window in arriving.windows(4):
            given.extend(window)
            arriving.release(window)

    with pytest.raises(HubError, match="in a row"):
        take(arrivals(many, obtainer))
    assert 10 <= len(given) < 20


def test_the_bytes_that_arrive_are_those_that_are_needed(pending, obtainer, hub, local_hub):
    before = hub.bytes_received
    needed = sum(o.needed_bytes for window in gather(pending, obtainer) for o in window)
    arrived = hub.bytes_received - before
    assert needed <= arrived <= 1.05 * needed
    sent = sum(r.bytes for r in local_hub.requests if r.status in {200, 206})
    assert arrived <= sent


def test_what_cannot_be_obtained_arrives_as_its_error(pending, obtainer, local_hub, names):
    local_hub.faults.add(Fault(f"*{names[1]}*safetensors*", status=503, times=None))
    errors = {
        obtained.pending.row.repo_id: obtained.result.reason
        for batch in gather(pending, obtainer)
        for obtained in batch
        if isinstance(obtained.result, AdapterError)
    }
    assert errors == {names[1]: Reason.NETWORK}


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


def test_a_path_that_leads_out_of_the_folder_is_refused_and_the_others_arrive(
    pending, obtainer, names
):
    hostile = replace(pending[0].row, subfolder="../..", weights_files=["../../x.safetensors"])
    arrived = [
        obtained
        for batch in gather([Pending(hostile, 1), *pending[1:]], obtainer)
        for obtained in batch
    ]
    refused = [o.pending.row.repo_id for o in arrived if isinstance(o.result, AdapterError)]
    assert refused == [names[0]]
    assert len(arrived) == len(names)
    assert not list(obtainer.folder.parent.parent.rglob("x.safetensors"))


def test_a_config_of_absurd_size_or_rank_is_not_taken_in(pending, obtainer, folder, names):
    huge, greedy = folder / names[1], folder / names[2]
    configs = {place: (place / "adapter_config.json").read_text() for place in (huge, greedy)}
    try:
        (huge / "adapter_config.json").write_text(configs[huge] + " " * (2 << 20))
        values = json.loads(configs[greedy]) | {"r": 3_000_000}
        (greedy / "adapter_config.json").write_text(json.dumps(values))
        for name in names[1:3]:
            (row,) = describe(obtainer.hub, AdapterName(name), BASE)
            with pytest.raises(AdapterError) as caught:
                obtainer.inspect(Pending(row, 1))
            assert caught.value.reason is Reason.CORRUPT
    finally:
        for place, text in configs.items():
            (place / "adapter_config.json").write_text(text)


@pytest.mark.parametrize("first_read", [600, 100_000], ids=["in parts", "at once"])
def test_an_adapter_costs_three_file_resolves(
    first_read, pending, obtainer, hub, local_hub, names, monkeypatch
):
    """Its config, its weights and its card: what the Hub counts, and limits by account."""
    monkeypatch.setattr(downloads, "_FIRST_READ", first_read)
    before = hub.resolves
    gather(pending, obtainer)
    resolved = [r.path for r in local_hub.requests if "/resolve/" in r.path]
    assert hub.resolves - before == 3 * len(names) == len(resolved)
    for file in ("adapter_config.json", "adapter_model.safetensors", "README.md"):
        assert sum(path.endswith(file) for path in resolved) == len(names)
