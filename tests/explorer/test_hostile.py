"""Text of the Hub is text, whatever is in it."""

from __future__ import annotations

import pytest
from payloads import payload

HOSTILE = {
    "script": "<script>window.hacked=1</script>",
    "end": '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">',
    "comment": "<!--<script>window.hacked=1",
    "attribute": "\"'><svg onload=window.hacked=1> javascript:window.hacked=1 \\u003cb\\",
    "separators": "line\u2028paragraph\u2029\ufeffend",
    "right-to-left": "safe\u202egnp.exe\u2066 & \u05d0\u05d1\u05d2",
    "long": "x" * 3000,
    "template": "{{payload}} ${window.hacked=1} $& %s \0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_shown_as_it_is(window, text):
    name = f"org/{text}"
    row = {
        "adapter": name, "x": 0, "y": 0, "domain": 0, "label": text, "license": text,
        "author": text, "datasets": [text], "languages": [text], "target_modules": [text],
        "promotes": [text], "task": text,
        "adapter_type": text, "status": text, "card": text, "revision": text, "subfolder": text,
        "created_at": text, "last_modified": text,
    }  # fmt: skip
    other = {"adapter": "a/b", "x": 1, "y": 1}
    made = payload(
        (row, other),
        {1: [(0, 0.1)]},
        ({"number": 1, "name": text, "size": 1},),
        base=text,
        recipe=text,
    )
    window.open(made, adapter=name)
    assert window.text("#base") == text
    assert window.text("#panel-title") == name
    assert window.text("#panel-domain") == f"1 {text}"
    assert window.text("#panel-card p") == text
    assert {text, text[:12]} <= set(window.texts(".facts dd"))
    assert f"1 {text}" in window.texts("#facets .choice .name")
    assert (
        window.text("#sql")
        == f"FROM within('{name.replace(chr(39), chr(39) * 2)}', distance := 0.25);"
    )
    assert_inert(window)

    window.click("#panel-close")
    window.click("#facets label", text[:20])
    window.click("#facets label", text[:20])
    window.click_point("a/b")
    assert window.neighbors() == [(name, "0.100")]
    window.click("#search")
    window.keys("org/")
    assert window.text("#results .name") == name
    assert_inert(window)


def assert_inert(window):
    assert window.run("return window.hacked ?? null") is None
    assert window.run("return document.querySelectorAll('script').length") == 2
    assert window.run("return document.querySelectorAll('img, iframe, object, form').length") == 0
    wide = window.run("""
        return [...document.querySelectorAll("body, header, #filters, #panel, #panel *, #facets *")]
            .filter((one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 10)
            .filter((one) => getComputedStyle(one).overflowX === "visible" && one.clientWidth)
            .map((one) => one.id || one.className || one.tagName)
    """)
    assert wide == []
    assert window.run("return document.documentElement.scrollWidth <= innerWidth")


def test_nothing_can_be_fetched_or_run_even_by_a_mistake_of_ours(window):
    window.open(payload())
    window.run("""
        const script = document.createElement("script");
        try { script.text = "window.hacked = 1"; document.body.append(script); } catch {}
        const markup = "<img src=x onerror='window.hacked=1'>";
        try { document.body.insertAdjacentHTML("beforeend", markup); } catch {}
        const image = new Image();
        image.src = "http://127.0.0.1:9/image.png";
        const style = document.createElement("style");
        style.textContent = "body { display: none }";
        document.head.append(style);
        fetch("http://127.0.0.1:9/").catch(() => {});
        navigator.sendBeacon?.("http://127.0.0.1:9/beacon");
    """)
    window.wait_for(lambda: window.run("return violations.length") >= 4)
    assert window.run("return window.hacked ?? null") is None
    assert window.run("return getComputedStyle(document.body).display") != "none"
    window.run("violations.length = 0")
    messages, sent = window.logs()
    assert messages
    assert [url for url in sent if url.startswith("http")] == []
