"""Photos are filtered and sorted by the time when they were taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch.records import Capture
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import ROWS, make_answered_row, make_report_page, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TIMES = {
    "a.jpg": "2026-01-31T18:04:05",
    "b.jpg": "2026-01-30T23:59:59+05:30",
    "c.jpg": "1969-07-20T20:17:40",
    "d.jpg": "2026-02-01T00:00:00-08:00",
    "e.jpg": "2026-13-40T00:00:00",  # no date
    "f.jpg": None,
}


@pytest.fixture(scope="module")
def listed(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """The list view of a report with dates, sorted by them."""
    rows = [
        replace(
            make_answered_row(name, 0.9),
            capture=Capture(taken, "Canon EOS R5" if name == "a.jpg" else None),
        )
        for name, taken in TIMES.items()
    ]
    report = write_report(tmp_path_factory.mktemp("taken") / "r.csv", rows)
    with open_page(browser, make_report_page(report, gallery=0)[0]) as shown:
        yield shown


@pytest.mark.parametrize(
    ("fields", "names", "undated"),
    [
        ({}, ["c.jpg", "b.jpg", "a.jpg", "d.jpg", "e.jpg", "f.jpg"], 0),
        ({"taken-from": "2026-01-31"}, ["a.jpg", "d.jpg"], 2),
        ({"taken-to": "2026-01-31"}, ["c.jpg", "b.jpg", "a.jpg"], 2),
        ({"taken-from": "2026-01-30", "taken-to": "2026-01-30"}, ["b.jpg"], 2),
        ({"taken-from": "2026-01-31", "search": "f.jpg"}, [], 1),
        ({"taken-from": "2026-03-01", "search": "a.jpg"}, [], 0),
    ],
)
def test_dates_filter_and_sort(
    listed: BrowserPage, fields: dict[str, str], names: list[str], undated: int
) -> None:
    listed.page.click("#clear")
    listed.fill(sort="taken", **fields)
    assert listed.names() == names
    assert listed.text("#count") == f"{len(names)} of 6 match"
    if undated:
        assert listed.text("#hint") == (
            "2 photos have no date." if undated == 2 else "1 photo has no date."
        )
    else:
        assert not listed.page.locator("#hint").is_visible()


def test_an_enlarged_photo_tells_time_and_camera(listed: BrowserPage) -> None:
    listed.page.click("#clear")
    listed.fill(sort="taken")
    listed.page.locator("#items li").nth(1).focus()
    listed.page.keyboard.press("Enter")
    facts = listed.text("#closeup .facts")
    assert "Taken\n2026-01-30 23:59:59 +05:30" in facts
    assert "Camera" not in facts
    listed.page.keyboard.press("ArrowRight")
    facts = listed.text("#closeup .facts")
    assert "Taken\n2026-01-31 18:04:05\n" in facts
    assert "Camera\nCanon EOS R5" in facts
    listed.page.keyboard.press("Escape")


def test_a_report_without_dates_has_no_such_filter(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, make_report_page(write_report(tmp_path / "r.csv", ROWS))[0]) as shown:
        assert not shown.page.locator("#taken-from").is_visible()
        assert "taken" not in shown.page.locator("#sort option").evaluate_all(
            "options => options.map((option) => option.value)"
        )


def test_an_older_report_makes_a_page(browser: Browser, tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    report.write_text("path,status,label,confidence,p_happy,error\na.jpg,ok,happy,0.9,0.9,\n")
    with open_page(browser, make_report_page(report)[0]) as shown:
        assert shown.names() == ["a.jpg"]
        shown.page.keyboard.press("j")
        shown.page.keyboard.press("1")
        assert shown.text("#done") == "1 of 1"
        shown.page.keyboard.press("Enter")
        assert shown.page.locator("#closeup dt").all_inner_texts() == ["Path", "Note"]
