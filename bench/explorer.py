"""How long the explorer takes for a frame while the map is panned and zoomed.

    python bench/explorer.py [--adapters N] [--domains N] [--width PIXELS] [--height PIXELS]

A made-up map (synthetic_map.py) in a Chromium without a GPU or a limit on its frame rate: a
frame begins when the last one has been drawn and shown, so the time between two is the cost of one,
script and drawing. The events are a mouse's: a drag over the map and back, and a wheel that zooms
in and out. The last line is one JSON object, times in milliseconds.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from synthetic_map import synthetic_map

from hubdelta.explorer.page import render

_FRAMES = 240

_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-frame-rate-limit",
)  # fmt: skip

_MOVE = """
const [kind, frames, done] = arguments;
const map = document.getElementById("marks");
const {left, top, width, height} = map.getBoundingClientRect();
const [x, y] = [left + width / 2, top + height / 2];
const mouse = (type, dx, dy) => new MouseEvent(type,
  {bubbles: true, cancelable: true, view: window, buttons: 1, clientX: x + dx, clientY: y + dy});
const wheel = (deltaY) => new WheelEvent("wheel",
  {bubbles: true, cancelable: true, view: window, deltaY, clientX: x + 40, clientY: y - 30});
const times = [];
let frame = 0;
if (kind === "pan") map.dispatchEvent(mouse("mousedown", 0, 0));
const step = (now) => {
  times.push(performance.now());
  if (frame === frames) {
    if (kind === "pan") window.dispatchEvent(mouse("mouseup", 0, 0));
    done(times.slice(1).map((time, place) => time - times[place]));
    return;
  }
  const turn = 2 * Math.PI * frame / frames;
  if (kind === "pan") {
    const [dx, dy] = [0.3 * width * Math.sin(turn), 0.2 * height * Math.sin(2 * turn)];
    window.dispatchEvent(mouse("mousemove", dx, dy));
  } else {
    map.dispatchEvent(wheel(frame < frames / 2 ? -20 : 20));
  }
  frame++;
  requestAnimationFrame(step);
};
requestAnimationFrame(step);
"""


def main() -> None:
    """Measures, prints a line a movement, and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=20_000)
    parser.add_argument("--domains", type=int, default=160)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=800)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "map.html"
        page.write_text(render(synthetic_map(asked.adapters, asked.domains)), encoding="utf-8")
        browser = _browser(Path(folder) / "profile", asked.width, asked.height)
        try:
            began = time.perf_counter()
            browser.get(page.as_uri())
            opened = time.perf_counter() - began
            frames = {
                kind: _statistics(browser.execute_async_script(_MOVE, kind, _FRAMES))
                for kind in ("pan", "zoom")
            }
            version = browser.capabilities["browserVersion"]
        finally:
            browser.quit()
        size = page.stat().st_size
    for kind, times in frames.items():
        print(f"{kind:5}", *(f"{name} {value:.1f} ms" for name, value in times.items()))
    print(
        json.dumps(
            {
                "adapters": asked.adapters,
                "width": asked.width,
                "height": asked.height,
                "frames": frames,
                "open_seconds": round(opened, 2),
                "page_bytes": size,
                "chromium": version,
                "cores": os.cpu_count(),
                "hubdelta": importlib.metadata.version("hubdelta"),
            }
        )
    )


def _browser(profile: Path, width: int, height: int) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for switch in (*_SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(switch)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def _statistics(milliseconds: list[float]) -> dict[str, Any]:
    median, late = np.percentile(milliseconds, [50, 95])
    return {"median": round(float(median), 2), "p95": round(float(late), 2)}


if __name__ == "__main__":
    main()
