"""The panel of an adapter: what is known of it, its neighbors, the SQL that lists them."""

from __future__ import annotations

import pytest
from payloads import VILLAGE, payload


def adapter(**values):
    return payload(({"x": 0, "y": 0, **values},), {}, ())


def facts(window):
    return dict(zip(window.texts(".facts dt"), window.texts(".facts dd"), strict=True))


def test_neighbors_are_those_of_the_data_within_the_threshold(window):
    window.open(payload(), adapter="poets/kings", threshold="0.3")
    assert window.neighbors() == [("poets/psalms", "0.050"), ("coders/python", "0.300")]
    assert window.text("#neighbors-summary") == "2 adapters"


def test_the_slider_changes_list_lines_and_sql(window):
    window.open(payload(), adapter="poets/psalms")
    assert window.neighbors() == [("poets/kings", "0.050")]
    few = window.inked("marks", "poets/psalms", 200)
    window.slide("#threshold", 0.4)
    assert [name for name, _ in window.neighbors()] == ["poets/kings", "coders/python"]
    assert window.inked("marks", "poets/psalms", 200) > few
    assert window.text("#sql") == "FROM within('poets/psalms', distance := 0.40);"
    window.slide("#threshold", 0.01)
    assert window.text("#neighbors .note") == "None this close. The nearest:"
    assert window.neighbors() == [("poets/kings", "0.050")]


def test_a_full_list_says_that_there_may_be_more_and_its_sql_has_as_many(window):
    window.open(payload(), adapter="poets/psalms", threshold="0.9")
    assert window.text("#neighbors-summary") == "the nearest 3; there may be more"
    assert window.text("#sql") == "FROM within('poets/psalms', distance := 0.90) LIMIT 3;"
    window.slide("#threshold", 0.89)
    assert window.text("#neighbors-summary") == "2 adapters"
    assert window.text("#sql") == "FROM within('poets/psalms', distance := 0.89);"


def test_a_neighbor_leads_to_its_own_panel(window):
    window.open(payload(), adapter="coders/python")
    window.click("#neighbors button", "coders/rust")
    assert window.text("#panel-title") == "coders/rust"
    assert window.run("return document.activeElement.id") == "panel-title"
    assert window.neighbors() == [("coders/python", "0.200")]


@pytest.mark.parametrize("name", ["o'brien/it's", "a/''", "a/\\'; DROP", 'a/"b"'])
def test_sql_doubles_quotes_and_nothing_else(window, name):
    window.open(adapter(adapter=name), adapter=name)
    doubled = name.replace("'", "''")
    assert window.text("#sql") == f"FROM within('{doubled}', distance := 0.25);"


def test_the_sql_is_copied_even_where_there_is_no_clipboard(window):
    window.open(payload(), adapter="poets/psalms")
    window.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    window.run("document.execCommand = () => false")
    window.click("#copy")
    window.wait_for(lambda: window.text("#copied") == "Selected: copy with Ctrl+C")
    assert window.run("return getSelection().toString()") == window.text("#sql")
    window.run("delete document.execCommand")
    window.click("#copy")
    window.wait_for(lambda: window.text("#copied") == "Copied")


def test_a_repository_has_a_link_to_its_commit_and_folder(window):
    window.open(
        adapter(adapter="org/a.b-c/sub dir", repo_id="org/a.b-c", subfolder="sub dir/x#y"),
        adapter="org/a.b-c/sub dir",
    )
    link = "const a = document.querySelector('#panel-link a'); return [a.href, a.target, a.rel]"
    assert window.run(link) == [
        "https://huggingface.co/org/a.b-c/tree/0123456789abcdef0123456789abcdef01234567/sub%20dir/x%23y",
        "_blank",
        "noopener noreferrer",
    ]


@pytest.mark.parametrize(
    ("repo_id", "subfolder", "hub"),
    [
        ("/data/adapters/mine", "", "https://huggingface.co"),
        ("javascript:alert(1)", "", "https://huggingface.co"),
        ("org/..", "", "https://huggingface.co"),
        ("org/name", "../../other", "https://huggingface.co"),
        ("org/name?x=1", "", "https://huggingface.co"),
        ("org/name", "", "javascript://x"),
    ],
)
def test_what_is_no_repository_has_no_link(window, repo_id, subfolder, hub):
    row = {"adapter": "it", "repo_id": repo_id, "subfolder": subfolder, "x": 0, "y": 0}
    window.open(payload((row,), {}, (), hub=hub), adapter="it")
    assert window.texts("#panel-link") == ["Not on the Hub"]
    assert window.run("return document.querySelectorAll('a').length") == 0


def test_facts_are_those_that_are_known(window):
    window.open(payload(), adapter="lost/odd-one")
    known = facts(window)
    assert known["License"] == "not stated"
    assert known["Rank"] == "alpha 16"
    assert known["Signal"] == "12, below 60: doubtful"
    assert not {"Downloads", "Likes", "Author", "Datasets", "Task", "Promotes", "Created"} & set(
        known
    )
    assert window.texts("#panel-card") == []


def test_every_fact_of_the_card_is_there(window):
    row = {
        "adapter": "o/n", "label": "law", "downloads": 12345, "likes": 7, "license": "mit",
        "rank": 8, "alpha": 12.5, "signal": 2484201.0, "norm": 12.345678, "adapter_type": "LOHA",
        "target_modules": ["q", "v"], "weight_bytes": 28_400_000, "author": "Ann",
        "languages": ["de"], "datasets": ["a/b", "c/d"], "task": "text-generation",
        "created_at": "2026-03-02T23:30:00+00:00", "last_modified": "2026-10-14T10:00:00+00:00",
        "status": "vanished", "promotes": ["def", "4 spaces", "<b>"], "card": "# Card\n\nBody",
    }  # fmt: skip
    window.open(adapter(**row), adapter="o/n")
    assert facts(window) == {
        "Label": "law", "License": "mit", "Author": "Ann", "Datasets": "a/b, c/d",
        "Languages": "de", "Task": "text-generation", "Promotes": "def, 4 spaces, <b>",
        "Downloads": "12,345", "Likes": "7",
        "Kind": "LOHA", "Rank": "8, alpha 12.5", "Targets": "q, v", "Weights": "28.4 MB",
        "Signal": "2,480,000", "Norm": "12.3", "Created": "2 Mar 2026", "Changed": "14 Oct 2026",
        "Status": "vanished", "Revision": "0123456789ab",
    }  # fmt: skip
    assert window.text("#panel-card p") == "# Card\n\nBody"


def test_the_address_opens_what_it_names_and_back_returns(window):
    window.open(payload(), adapter="poets/kings", threshold="0.3")
    assert window.text("#panel-title") == "poets/kings"
    assert window.text("#threshold-value") == "0.30"
    window.click("#neighbors button", "coders/python")
    address = window.browser.current_url.split("#")[1]
    assert address == "adapter=coders%2Fpython&threshold=0.3"
    window.run("history.back()")
    window.wait_for(lambda: window.texts("#panel-title") == ["poets/kings"])
    window.run("history.forward()")
    window.wait_for(lambda: window.texts("#panel-title") == ["coders/python"])
    window.click("#panel-close")
    assert window.browser.current_url.split("#")[1] == "threshold=0.3"


@pytest.mark.parametrize(
    "named", [{"adapter": "no/such"}, {"threshold": "nan"}, {"threshold": "7"}]
)
def test_an_address_that_names_nothing_opens_the_map(window, named):
    window.open(payload(), **named)
    assert window.texts("#panel") == []
    assert window.text("#count") == f"{len(VILLAGE)} of {len(VILLAGE)} shown"
