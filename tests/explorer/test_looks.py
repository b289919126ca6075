"""Fits a phone, and can be read in light and dark."""

from __future__ import annotations

import pytest
from payloads import payload

_OVERFLOW = "return [document.documentElement.scrollWidth, innerWidth]"

_CONTRASTS = """
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((value) => {
            const part = value / 255;
            return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (one) => {
        for (let at = one; at; at = at.parentElement) {
            const color = channels(getComputedStyle(at).backgroundColor);
            if (color.length === 3 || color[3] === 1) return color;
        }
        return [255, 255, 255];
    };
    const texts = [...document.querySelectorAll("body *")].filter((one) =>
        one.checkVisibility({opacityProperty: true}) && one.tagName !== "SCRIPT"
        && !one.closest(":disabled")
        && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    return texts.map((one) => {
        const style = getComputedStyle(one);
        const [dark, light] = [channels(style.color), ground(one)]
            .map(luminance).sort((a, b) => a - b);
        const name = `${one.tagName} ${one.id} ${one.className}: ${style.color}`;
        return [(light + 0.05) / (dark + 0.05), name];
    });
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(window, dark):
    window.open(payload(), dark=dark, adapter="poets/kings", threshold="0.9")
    window.click("summary")
    contrasts = window.run(_CONTRASTS)
    assert len(contrasts) > 60
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    assert window.run("return getComputedStyle(document.documentElement).colorScheme") == (
        "dark" if dark else "light"
    )


def test_the_button_switches_the_theme_of_page_and_map(window):
    window.open(payload())
    light = window.color("coders/python")
    ground = window.run("return getComputedStyle(document.body).backgroundColor")
    window.click("#theme")
    assert window.color("coders/python") != light
    assert window.run("return getComputedStyle(document.body).backgroundColor") != ground
    window.click("#theme")
    assert window.color("coders/python") == light


def test_a_phone_shows_map_panel_and_filters_without_scrolling_sideways(window):
    window.open(payload(), width=360, height=740, phone=True)
    assert window.run(_OVERFLOW) == [360, 360]
    window.click_point("coders/python")
    panel = window.run("return document.getElementById('panel').getBoundingClientRect().toJSON()")
    assert panel["left"] == 0
    assert panel["right"] == 360
    assert panel["bottom"] == pytest.approx(740, abs=1)
    assert panel["top"] > 250
    assert window.point("coders/python")[1] < panel["top"]
    assert window.run(_OVERFLOW) == [360, 360]
    window.click("#panel-close")
    window.click("#filters-toggle")
    window.click("#facets label", "kjv")
    assert window.run(_OVERFLOW) == [360, 360]
    window.click("#filters-close")
    assert window.text("#count") == "3 of 5 shown"


def test_fingers_select_pan_and_pinch(window):
    window.open(payload(), width=360, height=740, phone=True)

    def touch(kind, *points):
        touches = [{"x": x, "y": y, "id": place} for place, (x, y) in enumerate(points)]
        window.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches}
        )

    x, y = window.point("coders/rust")
    touch("touchStart", (x, y))
    touch("touchEnd")
    window.wait_for(lambda: window.texts("#panel-title") == ["coders/rust"])
    window.click("#panel-close")

    before = window.point("coders/rust")[0] - window.point("coders/python")[0]
    touch("touchStart", (150, 420), (210, 420))
    for step in range(1, 6):
        touch("touchMove", (150 - 10 * step, 420), (210 + 10 * step, 420))
    touch("touchEnd")
    window.settle()
    assert window.point("coders/rust")[0] - window.point("coders/python")[0] > 2 * before

    x, y = window.point("coders/python")
    touch("touchStart", (180, 420))
    for step in range(1, 6):
        touch("touchMove", (180 + 4 * step, 420 + 4 * step))
    touch("touchEnd")
    window.settle()
    assert window.point("coders/python") == pytest.approx((x + 20, y + 20), abs=1)
