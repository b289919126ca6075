"""Filters: what is hidden is not drawn, not found by the pointer, and counted."""

from __future__ import annotations

from payloads import payload
from test_map import FIRST, GROUND, SECOND


def choices(window, title):
    group = f"[role=group][aria-label='{title}']"
    names, sizes = window.texts(f"{group} .name"), window.texts(f"{group} .size")
    return dict(zip(names, map(int, sizes), strict=True))


def test_each_choice_has_its_count(window):
    window.open(payload())
    assert choices(window, "Domains") == {
        "4 kjv, bible, verses": 2, "2 code, python": 2, "in no domain": 1,
    }  # fmt: skip
    assert choices(window, "License") == {"mit": 2, "apache-2.0": 1, "not stated": 2}
    assert choices(window, "Rank") == {"8": 3, "16": 1, "none": 1}


def test_a_domain_that_is_hidden_is_not_drawn(window):
    window.open(payload())
    window.click("#facets label", "kjv")
    assert window.text("#count") == "3 of 5 shown"
    assert window.color("poets/psalms") == GROUND
    assert window.color("coders/python") == SECOND
    window.click_point("poets/psalms")
    assert window.texts("#panel") == []
    window.click(".shown [data-reset]")
    assert window.color("poets/psalms") == FIRST
    assert window.text("#count") == "5 of 5 shown"


def test_filters_work_together_and_counts_say_what_a_choice_would_show(window):
    window.open(payload())
    window.click("[aria-label='Only mit']")
    assert window.text("#count") == "2 of 5 shown"
    assert choices(window, "Domains")["2 code, python"] == 0
    assert choices(window, "License") == {"mit": 2, "apache-2.0": 1, "not stated": 2}
    window.click("#facets .chips label", "16")
    assert window.text("#count") == "1 of 5 shown"
    assert choices(window, "Rank")["16"] == 1
    window.click("[aria-label='License: none']")
    assert window.text("#empty p") == "No adapter matches the filters."
    window.click("[aria-label='License: all']")
    assert window.text("#count") == "4 of 5 shown"


def test_doubtful_vectors_are_named_and_can_be_hidden(window):
    window.open(payload())
    assert "Below 60 a vector is doubtful: 1 here" in window.text("#facets .facet > .note")
    window.click("#facets .note button")
    assert window.text("#count") == "4 of 5 shown"
    assert window.text("label[for=signal] output") == "60"
    window.slide("#signal", 100)
    assert window.text("label[for=signal] output") == "1K"
    assert window.text("#count") == "4 of 5 shown"
    window.slide("#signal", 0)
    assert window.text("#count") == "5 of 5 shown"


def test_many_domains_are_listed_when_asked_for(window):
    adapters = tuple({"adapter": f"a/{n}", "x": n, "y": n % 7, "domain": n} for n in range(60))
    domains = tuple({"number": n, "name": f"topic {n}", "size": 1} for n in range(60))
    window.open(payload(adapters, {}, domains))
    assert len(choices(window, "Domains")) == 14
    window.click("[role=group][aria-label='Domains'] > .link", "Show all 60")
    assert len(choices(window, "Domains")) == 60
    window.click("[aria-label='Only 59 topic 59']")
    assert window.text("#count") == "1 of 60 shown"
    colors = window.run(
        "return [...new Set([...document.querySelectorAll('#facets .swatch')]"
        ".map((one) => one.style.backgroundColor))]"
    )
    assert len(colors) == 12


def test_a_neighbor_that_is_hidden_says_so(window):
    window.open(payload(), adapter="coders/python", threshold="0.3")
    window.click("[aria-label='Only 2 code, python']")
    assert window.texts("#neighbors li small") == ["hidden by the filters"]
    assert len(window.neighbors()) == 2
