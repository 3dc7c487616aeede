"""A page of 100,000 rows opens, scrolls and searches fast."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch.page.compact import DIGEST_CHARS
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import element_text, make_report_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COUNT = 100_000
DAY = 86_400  # seconds
PATIENCE = 15.0  # seconds, on a machine that is busy with much else


CONFIDENCES = [0.5 + number * 7_919 % 5_000 / 10_000 for number in range(COUNT)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of rows whose photos do not exist; one in a thousand has failed."""
    report = tmp_path_factory.mktemp("size") / "r.csv"
    with report.open("w") as file:
        file.write("path,status,label,confidence,p_happy,p_sad,sha256,taken,camera,error\n")
        for number, confidence in enumerate(CONFIDENCES):
            file.write(f"photos/album {number // 500}/IMG_{number:06}.jpg,")
            failed = number % 1_000 == 7
            answer = f"ok,happy,{confidence:.4f},{confidence:.4f},{1 - confidence:.4f},"
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            taken = datetime(2026, 1, 1) + timedelta(seconds=number * number % 99_991)
            known = f"{digest},{taken.isoformat()}+01:00,Canon EOS R5,"
            file.write(f"{'failed,,,,,' if failed else answer}{known}")
            file.write(f"{'truncated: ends early' if failed else ''}\n")
    page, made = make_report_page(report, gallery=0)
    assert (made.rows, made.pictures) == (COUNT, 0)
    assert made.size == page.stat().st_size
    # The digests, which do not compress, take most of the page.
    assert len(element_text(page, "digests")) == COUNT * DIGEST_CHARS
    assert made.size - COUNT * DIGEST_CHARS < 1_200_000
    return page


@pytest.fixture
def shown(browser: Browser, page: Path) -> Iterator[BrowserPage]:
    before = time.monotonic()
    with open_page(browser, page) as shown:
        shown.page.wait_for_selector("#items li")
        assert time.monotonic() - before < PATIENCE
        yield shown


def test_only_visible_rows_are_in_the_document(shown: BrowserPage) -> None:
    assert shown.text("#count") == "100,000 of 100,000 match"
    assert shown.page.locator("#items li").count() < 50
    least = min(range(COUNT), key=lambda number: CONFIDENCES[number])
    assert shown.names()[0] == f"IMG_{least:06}.jpg"


def test_the_last_row_is_reached(shown: BrowserPage) -> None:
    shown.fill(sort="report")
    shown.page.keyboard.press("j")
    shown.page.keyboard.press("End")
    focused = "document.activeElement.querySelector('.path bdi').textContent"
    assert shown.page.evaluate(focused) == "IMG_099999.jpg"
    shown.page.keyboard.press("1")
    assert shown.text("#done") == "1 of 99,900"


def test_search_and_filters_are_fast(shown: BrowserPage) -> None:
    before = time.monotonic()
    shown.fill(search="img_054321")
    assert shown.names() == ["IMG_054321.jpg"]
    shown.fill(search="", sort="taken", **{"taken-from": "2026-01-02"})
    later = sum(number * number % 99_991 >= DAY for number in range(COUNT))
    assert shown.text("#count") == f"{later:,} of 100,000 match"
    shown.page.click("#clear")
    shown.fill(search="", folder="photos/album 4/", status="failed")
    assert shown.text("#count") == "1 of 100,000 match"
    assert time.monotonic() - before < PATIENCE
