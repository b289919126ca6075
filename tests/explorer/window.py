"""A window of a real browser with the explorer's page in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By

from hubdelta.explorer.page import render

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
"""

_PIXELS = """
const pixels = (id, x, y, width, height) => {
    const box = document.getElementById(id).getBoundingClientRect();
    const copy = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
    copy.drawImage(document.getElementById(id), box.left - x, box.top - y);
    return copy.getImageData(0, 0, width, height).data;
};
"""


class Window:
    """What a user sees and does; each `open` is a new visit."""

    def __init__(self, browser: webdriver.Chrome, folder: Path):
        self.browser = browser
        self.file = folder / "map.html"
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})

    def open(
        self,
        payload: str,
        *,
        width: int = 1200,
        height: int = 800,
        phone: bool = False,
        dark: bool = False,
        **named: str,
    ) -> None:
        """Opens the page of a payload; `named` goes into the address's hash."""
        self.file.write_text(render(payload), encoding="utf-8")
        self.resize(width, height, phone)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.get("about:blank")
        self.logs()
        self.browser.get(self.file.as_uri() + (f"#{urlencode(named)}" if named else ""))
        self.settle()

    def resize(self, width: int, height: int, phone: bool = False) -> None:
        """Sets the size in CSS pixels; a phone has a finger for a pointer."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        touch = {"enabled": phone, "maxTouchPoints": 2 if phone else 1}
        self.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", touch)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body of JavaScript returns."""
        return self.browser.execute_script(script, *arguments)

    def settle(self) -> None:
        """Waits until what is due has been drawn."""
        self.browser.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )

    def wait_for(self, true: Callable[[], Any], seconds: float = 5) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it has not become true"
            time.sleep(0.02)

    def texts(self, selector: str) -> list[str]:
        """The whole text of each element that matches and is shown."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0])]"
            ".filter((one) => one.checkVisibility()).map((one) => one.textContent)",
            selector,
        )

    def text(self, selector: str) -> str:
        (text,) = self.texts(selector)
        return text

    def click(self, selector: str, text: str | None = None) -> None:
        """Clicks the first element that matches, of those the one with a text in it."""
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        next(
            one for one in found if text is None or text in one.get_attribute("textContent")
        ).click()
        self.settle()

    def keys(self, *keys: str) -> None:
        """Presses keys where the focus is."""
        for key in keys:
            ActionChains(self.browser, duration=0).send_keys(key).perform()
        self.settle()

    def slide(self, selector: str, value: float) -> None:
        """Moves a slider as a hand does."""
        self.run(
            "const [one] = document.querySelectorAll(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('input', {bubbles: true}))",
            selector,
            value,
        )
        self.settle()

    def point(self, adapter: str) -> tuple[int, int]:
        """Where an adapter's point is in the window [CSS pixels]."""
        x, y = self.run("return pointOf(arguments[0])", adapter)
        return round(x), round(y)

    def click_at(self, x: int, y: int) -> None:
        actions = ActionBuilder(self.browser, duration=0)
        actions.pointer_action.move_to_location(x, y).click()
        actions.perform()
        self.settle()

    def click_point(self, adapter: str) -> None:
        self.click_at(*self.point(adapter))

    def color(self, adapter: str) -> tuple[int, int, int]:
        """What is drawn at an adapter's place: the middle pixel's red, green, blue."""
        red, green, blue = self.run(
            _PIXELS + "const [x, y] = pointOf(arguments[0]).map(Math.round);"
            "return [...pixels('points', x, y, 1, 1)].slice(0, 3)",
            adapter,
        )
        return red, green, blue

    def inked(self, canvas: str, around: str, reach: int) -> int:
        """Pixels of a canvas that are drawn on, in a square around an adapter's point."""
        return self.run(
            _PIXELS + "const [id, adapter, reach] = arguments;"
            "const [x, y] = pointOf(adapter).map(Math.round);"
            "const data = pixels(id, x - reach, y - reach, 2 * reach, 2 * reach);"
            "return data.filter((value, place) => place % 4 === (id === 'marks' ? 3 : 0) &&"
            " (id === 'marks' ? value > 0 : value < 240)).length",
            canvas,
            around,
            reach,
        )

    def neighbors(self) -> list[tuple[str, str]]:
        """The list of the panel: names and distances."""
        names = self.texts("#neighbors .name")
        return list(zip(names, self.texts("#neighbors .distance"), strict=True))

    def logs(self) -> tuple[list[str], list[str]]:
        """Messages on the console, and addresses that were asked for, since the last call.

        What the page's own policy has stopped was not asked for.
        """
        messages = [entry["message"] for entry in self.browser.get_log("browser")]
        log = self.browser.get_log("performance")
        events = [json.loads(entry["message"])["message"] for entry in log]
        sent = {
            event["params"]["requestId"]: event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }
        for event in events:
            if (
                event["method"] == "Network.loadingFailed"
                and event["params"].get("blockedReason") == "csp"
            ):
                sent.pop(event["params"]["requestId"], None)
        return messages, list(sent.values())
