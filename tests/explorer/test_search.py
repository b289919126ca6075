"""Search finds names, authors and datasets, and its list selects."""

from __future__ import annotations

from payloads import payload
from selenium.webdriver.common.keys import Keys


def search(window, text):
    window.run("const box = document.getElementById('search'); box.focus(); box.select()")
    window.keys(text)
    return window.texts("#results [role=option] .name")


def test_names_authors_and_datasets_are_found(window):
    window.open(payload())
    assert search(window, "RUST") == ["coders/rust"]
    assert search(window, "ferris") == ["coders/rust"]
    assert search(window, "networkx") == ["coders/python"]
    assert search(window, "coders py") == ["coders/python"]
    assert search(window, "poets") == ["poets/psalms", "poets/kings"]
    assert search(window, "nobody") == []
    assert window.text("#results") == "No name, author or dataset matches."


def test_a_result_selects(window):
    window.open(payload())
    search(window, "poets")
    window.click("#results [role=option]", "kings")
    assert window.text("#panel-title") == "poets/kings"
    assert window.texts("#results") == []


def test_keys_choose_from_the_list(window):
    window.open(payload())
    search(window, "poets")
    window.keys(Keys.ARROW_DOWN)
    active = window.run("return document.activeElement.getAttribute('aria-activedescendant')")
    assert "kings" in window.text(f"#{active}")
    window.keys(Keys.ENTER)
    assert window.text("#panel-title") == "poets/kings"


def test_long_lists_end_with_a_count(window):
    adapters = tuple({"adapter": f"many/{n}", "x": n, "y": 0} for n in range(100))
    window.open(payload(adapters, {}, ()))
    assert len(search(window, "many")) == 40
    assert window.text("#results .note") == "… and 60 more"


def test_an_address_with_an_unknown_adapter_is_searched_for(window):
    window.open(payload(), adapter="poets/kin")
    assert window.texts("#results [role=option] .name") == ["poets/kings"]
    window.run("location.hash = 'adapter=poets/nobody'")
    assert window.text("#results") == "No name, author or dataset matches."
    window.run("location.hash = 'adapter=poets/kings'")
    assert window.text("#panel-title") == "poets/kings"
    assert window.texts("#results") == []
    assert window.run("return document.getElementById('search').value") == ""
