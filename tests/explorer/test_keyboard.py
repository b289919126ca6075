"""Everything can be done with keys, and what has the focus is seen."""

from __future__ import annotations

from payloads import payload
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys


def focus(window):
    return window.run("return document.activeElement.id || document.activeElement.className")


def test_arrows_walk_over_the_map_and_enter_opens(window):
    window.open(payload())
    window.run("document.getElementById('marks').focus()")
    window.keys(Keys.ARROW_RIGHT)
    start = window.text("#announcer")
    window.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert window.text("#announcer") != start
    window.keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert window.text("#announcer") == "No adapter in that direction."
    assert window.text("#tooltip strong") == "poets/psalms"
    window.keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert window.text("#panel-title") == "poets/kings"
    assert window.text("#announcer") == "Selected poets/kings, 4 kjv, bible, verses. 1 within 0.25."
    assert focus(window) == "marks"
    window.keys(Keys.ESCAPE)
    assert window.texts("#panel") == []
    assert window.text("#announcer") == "Nothing selected."


def test_keys_zoom_and_fit(window):
    window.open(payload())
    before = window.point("poets/psalms")
    window.run("document.getElementById('marks').focus()")
    window.keys("+", "+")
    assert window.point("poets/psalms")[0] < before[0]
    window.keys("-", "0")
    assert window.point("poets/psalms") == before


def test_slash_searches_and_escape_leaves_the_list(window):
    window.open(payload(), adapter="poets/kings")
    window.keys("/")
    assert focus(window) == "search"
    window.keys("r", "u", "/", Keys.BACKSPACE)
    assert window.texts("#results [role=option] .name") == ["coders/rust"]
    window.keys(Keys.ESCAPE)
    assert window.texts("#results") == []
    assert window.text("#panel-title") == "poets/kings"
    window.keys(Keys.ESCAPE)
    assert window.texts("#panel") == []
    assert focus(window) == "marks"


def test_tab_reaches_everything_and_the_focus_is_seen(window):
    window.open(payload(), adapter="poets/kings")
    window.run("document.body.focus(); document.activeElement.blur()")
    reachable = window.run("""
        return [...document.querySelectorAll("button, input, a, summary, canvas[tabindex]")]
            .filter((one) => one.checkVisibility() && !one.disabled).length
    """)
    seen = []
    for _ in range(reachable):
        ActionChains(window.browser, duration=0).send_keys(Keys.TAB).perform()
        visible, name = window.run("""
            const one = document.activeElement, label = one.closest(".chips label") ?? one;
            return [getComputedStyle(label).outlineStyle !== "none", one.id || one.className];
        """)
        assert visible, name
        seen.append(name)
    for name in ("search", "theme", "marks", "closer", "fit", "threshold", "copy", "panel-close"):
        assert name in seen
    assert window.run(
        "return new Set([...document.querySelectorAll('button,input')].filter((one) => "
        "one.checkVisibility() && !one.labels?.length && !one.ariaLabel && !one.textContent)).size"
    ) == 0  # fmt: skip
