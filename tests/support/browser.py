"""Pages opened in a real browser, which notes what they ask for and what goes wrong in them."""

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
    """A page in the browser, all that it asked for, and all complaints about it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Give the names of the first rows, in their order, with the list in sight."""
        self.page.locator("#photos").evaluate("photos => photos.scrollIntoView()")
        self.page.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        return self.page.locator("#items li .path bdi:first-child").all_text_contents()

    def fill(self, **fields: str) -> None:
        """Fill fields of the form, and wait until the list has followed."""
        for name, value in fields.items():
            place = self.page.locator(f"#{name}")
            if place.evaluate("field => field.tagName") == "SELECT":
                place.select_option(value)
            else:
                place.fill(value)
        self.page.wait_for_timeout(200)

    def text(self, place: str) -> str:
        """Give the text of an element, as it is shown."""
        return self.page.locator(place).inner_text()


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start the system's Chromium, or skip what needs it and say why."""
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
    """Open a page from its file, and end with a look at what went wrong.

    ``script`` runs in it before all else.
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
    """Note from now on what a page asks for and complains of."""
    shown = BrowserPage(page)
    page.set_default_timeout(10_000)
    page.on("request", lambda request: shown.requests.append(request.url))
    page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    page.on(
        "console",
        lambda line: shown.complaints.append(line.text) if line.type == "error" else None,
    )
    return shown
