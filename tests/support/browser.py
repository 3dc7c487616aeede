"""Pages in a real browser, with records of their requests and errors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
LOCAL = ("file:", "data:", "blob:")


@dataclass
class BrowserPage:
    """A page in the browser.

    Attributes:
        page: the page.
        requests: the URLs that it requested.
        complaints: script errors and error messages on its console.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of the first rows, in order, after scrolling to the list."""
        self.page.locator("#photos").evaluate("photos => photos.scrollIntoView()")
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        return self.page.locator("#items li .path bdi:first-child").all_text_contents()

    def fill(self, **fields: str) -> None:
        """Fill fields of the form, and wait until the list is updated."""
        for name, value in fields.items():
            place = self.page.locator(f"#{name}")
            if place.evaluate("field => field.tagName") == "SELECT":
                place.select_option(value)
            else:
                place.fill(value)
        self.page.wait_for_timeout(200)

    def text(self, place: str) -> str:
        """Return the visible text of an element."""
        return self.page.locator(place).inner_text()


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start the system's Chromium; skip the test if it is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need pip install 'batch-label[browser]'"
    )
    path = next(filter(None, map(shutil.which, BROWSER_NAMES)), None)
    if path is None:
        pytest.skip("the browser tests need Chromium (Debian: apt install chromium)")
    # Chromium's own sandbox does not run as root.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser, file: Path, script: str = "", **context: Any
) -> Iterator[BrowserPage]:
    """Open a page from its file; at the end, assert that it had no errors and no remote requests.

    Args:
        browser: the browser.
        file: the file of the page.
        script: JavaScript that runs before the scripts of the page.
        context: options of the browser context.
    """
    options = {"viewport": DESKTOP, "reduced_motion": "reduce"} | context
    window = browser.new_context(**options)
    if script:
        window.add_init_script(script)
    try:
        shown = watch_page(window.new_page())
        shown.page.goto(file.as_uri())
        shown.page.wait_for_selector("#page:not([hidden])")
        yield shown
        assert not shown.complaints
        assert all(address.startswith(LOCAL) for address in shown.requests)
    finally:
        window.close()


def watch_page(page: Page) -> BrowserPage:
    """Record the requests and errors of a page from now on."""
    shown = BrowserPage(page)
    page.set_default_timeout(10_000)
    page.on("request", lambda request: shown.requests.append(request.url))
    page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    page.on(
        "console",
        lambda line: shown.complaints.append(line.text) if line.type == "error" else None,
    )
    return shown
