"""A browser for the explorer's tests; they are skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import optional
import pytest

if TYPE_CHECKING:
    from selenium import webdriver
    from window import Window

_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    optional.skip_without("selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for switch in (*_SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # A path to the driver keeps selenium from looking for one to download.
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture
def window(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Window]:
    """A window whose page says nothing on the console and asks for nothing, whatever is done."""
    from window import Window

    opened = Window(browser, tmp_path)
    yield opened
    messages, sent = opened.logs()
    assert messages == []
    assert {url.split("#")[0] for url in sent} <= {opened.file.as_uri()}
    assert opened.run("localStorage.clear(); return window.violations ?? []") == []
