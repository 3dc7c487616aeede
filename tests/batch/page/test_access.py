"""The page is accessible: axe-core checks it in light and dark, on a desktop and a phone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from batch.page.thumbnails import PHOTO_CHANGED, PHOTO_GONE
from batch.records import Capture
from tests.batch.page.test_faces import make_group
from tests.support.browser import DESKTOP, PHONE, BrowserPage, open_page
from tests.support.page_rows import (
    EVERY_ROW,
    OUTPUTS,
    ROWS,
    make_answered_row,
    make_report_page,
    write_photos,
    write_report,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

THUMB = 44  # CSS pixels: WCAG 2.2, 2.5.5 Target Size (Enhanced)
MEASURE = "all => all.map((one) => one.getBoundingClientRect().height)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Path:
    """A page with every feature: failures, changes, placeholders, a long name."""
    folder = tmp_path_factory.mktemp("access")
    more = [
        make_answered_row(f"{'long folder ' * 8}/{'long name' * 12}{n}.jpg", 0.55 + n / 90)
        for n in range(40)
    ]
    rows = [*EVERY_ROW, *more]
    write_photos(folder, rows, astronaut)
    (folder / "album" / "c.jpg").unlink()
    astronaut.resize((64, 64)).save(folder / "other" / "d.jpg")
    old = write_report(folder / "old.csv", [make_answered_row("album/a.jpg", 0.1), *ROWS[1:4]])
    return make_report_page(write_report(folder / "results.csv", rows, OUTPUTS), old)[0]


def faults(shown: BrowserPage) -> list[str]:
    """Return the serious and critical violations that axe-core finds, with their elements."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="these tests need pip install 'batch-label[browser]'",
    )
    found: list[dict[str, Any]] = axe.Axe().run(shown.page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        for node in fault["nodes"]
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(
    browser: Browser, page: Path, viewport: dict[str, int], scheme: str
) -> None:
    with open_page(browser, page, viewport=viewport, color_scheme=scheme) as shown:
        for place in ("changes", "failures", "facts", "filters"):
            shown.page.locator(f"#{place}").evaluate("details => { details.open = true; }")
        for table in ("labels", "confidence", "history"):
            shown.page.click(f"#{table}-table summary")
        shown.fill(sort="report")
        names = shown.names()
        shown.page.locator("#items .choices button").first.click()
        assert faults(shown) == []
        shown.page.locator("#items .picture").first.click()
        assert shown.text("#closeup-name") == names[0] == "a.jpg"
        assert faults(shown) == []
        shown.page.keyboard.press("Escape")
        shown.page.click("#as-list")
        assert shown.names()[0] == names[0]
        assert faults(shown) == []
        shown.page.click("#as-gallery")
        for status in ("neither", "no_person"):
            shown.fill(status=status)
            assert shown.page.locator("#items li").count() == 1
            assert faults(shown) == []
        shown.fill(status="")
        for name, words in (("c.jpg", PHOTO_GONE), ("d.jpg", PHOTO_CHANGED)):
            shown.fill(search=name)
            assert shown.text("#items .placeholder") == words
            assert faults(shown) == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_in_faces_dates_and_loaded_files(
    browser: Browser,
    tmp_path: Path,
    astronaut: Image.Image,
    viewport: dict[str, int],
    scheme: str,
) -> None:
    capture = Capture("2026-01-31T18:04:05+01:00", "Canon EOS R5")
    group = replace(make_group("group.jpg"), capture=capture)
    rows = [group, replace(make_answered_row("one.jpg", 0.9), width=400, height=300)]
    write_photos(tmp_path, rows, astronaut.resize((400, 300)))
    report = write_report(tmp_path / "r.csv", rows, OUTPUTS, per_face=True)
    (tmp_path / "other.csv").write_text("path\na.jpg\n")
    with open_page(
        browser, make_report_page(report)[0], viewport=viewport, color_scheme=scheme
    ) as shown:
        shown.page.locator("#filters").evaluate("details => { details.open = true; }")
        shown.fill(sort="taken", **{"taken-to": "2026-01-31"})
        assert shown.text("#hint") == "1 photo has no date."
        shown.page.set_input_files("#load-files", tmp_path / "other.csv")
        shown.page.wait_for_selector("#loaded:not([hidden])")
        shown.names()
        shown.page.locator("#items .choices button").first.click()
        assert faults(shown) == []
        shown.page.locator("#items .picture").first.click()
        assert shown.page.locator("#closeup .tag").count() == 2
        assert shown.page.get_by_role("link", name="Open the original").count() == 1
        assert faults(shown) == []
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert shown.page.evaluate(wide) == 0


def test_the_check_finds_low_contrast(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.page.locator("#lead").evaluate("lead => { lead.style.color = '#eee'; }")
        assert any(fault.startswith("color-contrast") for fault in faults(shown))


def test_a_phone_shows_one_column_for_thumbs(browser: Browser, page: Path) -> None:
    with open_page(browser, page, viewport=PHONE, has_touch=True) as shown:
        shown.names()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert shown.page.evaluate(wide) == 0
        lefts = shown.page.locator("#items li").evaluate_all(
            "items => items.map((item) => item.getBoundingClientRect().left)"
        )
        assert len(set(lefts)) == 1
        for place in (".choices button:visible", "#as-list", "#undo", "#load", "#download"):
            assert min(shown.page.locator(place).evaluate_all(MEASURE)) >= THUMB, place
        shown.page.tap("#items li .choices button >> nth=0")
        assert shown.text("#done").startswith("1 of ")
        clear = shown.page.locator(".choices .clear:visible")
        assert clear.count() == 1
        assert clear.evaluate_all(MEASURE)[0] >= THUMB
        tops = shown.page.locator(".review button:visible").evaluate_all(
            "buttons => buttons.map((button) => button.getBoundingClientRect().top)"
        )
        assert len(tops) == 3
        assert len(set(tops)) == 1, "the controls of the review take one line"


def test_a_name_in_the_list_opens_the_enlarged_photo(browser: Browser, page: Path) -> None:
    with open_page(browser, page, viewport=PHONE, has_touch=True) as shown:
        shown.page.tap("#as-list")
        names = shown.names()
        buttons = shown.page.locator("#items .name")
        assert min(buttons.evaluate_all(MEASURE)) >= THUMB
        hidden = "all => all.map((one) => one.scrollHeight - one.clientHeight)"
        assert max(shown.page.locator("#items .row .inside").evaluate_all(hidden)) == 0
        buttons.nth(2).tap()
        assert shown.text("#closeup-name") == names[2]
        assert faults(shown) == []
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        shown.fill(status="failed")
        name = shown.names()[0]
        shown.page.get_by_role("button", name=f"Enlarge {name}").click()
        assert shown.text("#closeup-name") == name


def test_the_page_follows_the_system_s_colours(browser: Browser, page: Path) -> None:
    shades = []
    for scheme in ("light", "dark"):
        with open_page(browser, page, color_scheme=scheme) as shown:
            shades.append(
                shown.page.evaluate(
                    """() => [
                        getComputedStyle(document.body).backgroundColor,
                        getComputedStyle(document.querySelector("figure text")).fill,
                        getComputedStyle(document.querySelector("figure path[style*=label]")).fill,
                    ]"""
                )
            )
    light, dark = shades
    assert all(one != other for one, other in zip(light, dark, strict=True))


def test_screen_readers_announce_counts(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        for place in ("#count", "p:has(#done)"):
            assert shown.page.locator(place).get_attribute("aria-live") == "polite"
        item = shown.page.locator("#items li").first
        assert item.get_attribute("aria-posinset") == "1"
        assert item.get_attribute("aria-setsize") == "47"
