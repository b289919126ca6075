"""The map: points where they belong, in their colors, and a click on one selects it."""

from __future__ import annotations

import pytest
from payloads import DOMAINS, VILLAGE, payload
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

GROUND = (251, 251, 250)
FIRST, SECOND = (0x38, 0x36, 0xC3), (0xCE, 0x71, 0x0C)


def test_every_adapter_is_a_point_in_its_domains_color(window):
    window.open(payload())
    assert window.color("poets/psalms") == window.color("poets/kings") == FIRST
    assert window.color("coders/python") == window.color("coders/rust") == SECOND
    left, top = window.point("coders/python")
    right, bottom = window.point("lost/odd-one")
    assert left < right
    assert top < bottom


def test_a_doubtful_vector_is_a_hollow_point(window):
    window.open(payload())
    assert window.color("lost/odd-one") == GROUND


def test_more_downloads_make_a_larger_point(window):
    few = {"adapter": "a/few", "x": 0, "y": 0, "downloads": 0}
    many = {"adapter": "a/many", "x": 1, "y": 0, "downloads": 100_000}
    window.open(payload((few, many), {}, ()))
    smaller, larger = (window.inked("points", name, 20) for name in ("a/few", "a/many"))
    assert larger > 4 * smaller > 80


def test_a_click_on_a_point_selects_it_and_one_beside_deselects(window):
    window.open(payload())
    window.click_point("coders/rust")
    assert window.text("#panel-title") == "coders/rust"
    assert "coders/rust" in window.text("#announcer")
    x, y = window.point("coders/rust")
    window.click_at(x, y + 90)
    assert window.texts("#panel") == []


def test_the_pointer_shows_what_a_point_is(window):
    window.open(payload())
    x, y = window.point("poets/psalms")
    window.run("document.activeElement.blur()")
    actions = ActionChains(window.browser, duration=0)
    map_ = window.browser.find_element(By.ID, "marks")
    box = map_.rect
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    actions.move_to_element_with_offset(map_, round(x - middle[0]), round(y - middle[1])).perform()
    assert window.text("#tooltip strong") == "poets/psalms"
    assert window.texts("#tooltip span") == ["4 kjv, bible, verses", "900 downloads · mit · rank 8"]


def test_buttons_zoom_and_fit_shows_everything_again(window):
    window.open(payload())
    before = window.point("poets/psalms")
    window.click("#closer")
    assert window.point("poets/psalms")[0] < before[0]
    window.click("#further")
    window.click("#further")
    window.click("#fit")
    assert window.point("poets/psalms") == before


def test_a_drag_moves_the_map_and_selects_nothing(window):
    window.open(payload())
    x, y = window.point("poets/psalms")
    map_ = window.browser.find_element(By.ID, "marks")
    ActionChains(window.browser, duration=0).move_to_element(map_).click_and_hold().move_by_offset(
        -60, -30
    ).release().perform()
    window.settle()
    assert window.point("poets/psalms") == (x - 60, y - 30)
    assert window.color("poets/psalms") == FIRST
    assert window.texts("#panel") == []


def test_the_list_of_domains_points_one_out(window):
    window.open(payload())
    window.run(
        "document.querySelector('#facets .choice').dispatchEvent("
        "new PointerEvent('pointerenter', {pointerType: 'mouse'}))"
    )
    window.settle()
    assert window.color("poets/psalms") == FIRST
    assert window.color("coders/python") != SECOND


@pytest.mark.parametrize("count", [0, 1])
def test_a_base_of_none_or_one(window, count):
    window.open(payload(VILLAGE[:count], {}, DOMAINS[:count]))
    if count:
        assert window.color("poets/psalms") == FIRST
        window.click_point("poets/psalms")
        assert window.text("#neighbors") == "No other adapter to compare with."
    else:
        assert window.text("#empty") == "This base has no embedded adapters yet."
        window.click("#fit")


def test_data_of_another_format_are_refused_in_words(window):
    window.open(payload())
    text = window.file.read_text(encoding="utf-8")
    window.file.write_text(text.replace('{"format": 1', '{"format": 2', 1), encoding="utf-8")
    window.browser.refresh()
    assert window.text("#empty") == "This page reads format 1 of the data, not 2."


def test_no_point_moves_when_the_panel_opens_or_closes(window):
    window.open(payload())
    before = window.point("coders/python")
    window.click_point("coders/python")
    assert window.point("coders/python") == before
    window.click("#panel-close")
    assert window.point("coders/python") == before


def test_what_the_panel_would_cover_comes_into_sight(window):
    window.open(payload())
    window.click_point("coders/rust")
    panel = window.run("return document.getElementById('panel').getBoundingClientRect().left")
    assert window.point("coders/rust")[0] < panel


def test_a_map_that_shows_everything_still_does_in_a_smaller_window(window):
    window.open(payload())
    right = window.point("coders/rust")[0]
    window.resize(700, 700)
    window.wait_for(lambda: window.point("coders/rust")[0] < min(right, 700))
    assert window.point("poets/psalms")[1] < 700
