"""The page links to the original photos."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import pytest
from PIL import Image

from batch.location import Url
from batch.page.links import find_link_starts
from batch.page.make import PageJob, make_page
from batch.records import Row, Source, Status
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import make_answered_row, make_report_page, page_data, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ODD_NAMES = (
    b"a#b?c%41 d&e;f+g.png",
    b"\xff\xfe not UTF-8.png",
    b"back\\slash, tab\t and\nline.png",
    b"=formula.png",
    b"javascript:alert(1).png",
    "größe 微笑 \U0001f600.png".encode(),
    b"quote \" and ' <b>.png",
)


def href_of(shown: BrowserPage, number: int) -> str | None:
    """Enlarge the photo of a row in the list, and read the address of its original."""
    link = shown.page.get_by_role("link", name="Open the original")
    shown.page.locator("#items li").nth(number).focus()
    shown.page.keyboard.press("Enter")
    href = link.get_attribute("href") if link.count() else None
    shown.page.keyboard.press("Escape")
    return href


@pytest.mark.parametrize(
    ("folder", "start"),
    [
        ("", "./../photos/"),
        ("./", "./../photos/"),
        ("a #b/ä/", "./../photos/a%20%23b/%C3%A4/"),
        ("c:/\\xFF\\\\/", "./../photos/c%3A/%FF%5C/"),
        ("../page/", "./"),
        ("../page/x/", "./x/"),
        ("../page/x:y/", "./x%3Ay/"),
        ("/etc/", "./{up}etc/"),
        ("bad\\q/", ""),
        ("nul\\x00/", ""),
        ("zip://dir/", ""),
        ("s3://bucket/dir/", ""),
        ("javascript://x/", ""),
        ("https://host/a%20b/\\x0A?c#d/", "https://host/a%20b/%0A?c#d/"),
    ],
)
def test_the_start_of_a_link(tmp_path: Path, folder: str, start: str) -> None:
    up = "../" * (len(tmp_path.parts))
    page = tmp_path / "page" / "r.html"
    found = find_link_starts([folder], tmp_path / "photos", str(page))
    assert found == [start.format(up=up)]


def test_a_page_on_standard_output_links_only_to_the_web(tmp_path: Path) -> None:
    assert find_link_starts(["a/", "https://host/"], tmp_path, "-") == ["", "https://host/"]


def test_odd_names_are_opened_in_a_new_tab(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "photos" / os.fsdecode(b"50% #1?\xe9")
    folder.mkdir(parents=True)
    rows = []
    for number, name in enumerate(ODD_NAMES):
        path = folder / os.fsdecode(name)
        Image.new("RGB", (20 + number, 10)).save(path)
        rows.append(make_answered_row(str(path.relative_to(tmp_path)), 0.9))
    report = write_report(tmp_path / "r.csv", rows)
    page = tmp_path / "pages" / "r.html"
    page.parent.mkdir()
    make_page(PageJob(report, str(page), tmp_path, gallery=0), io.BytesIO())
    with open_page(browser, page) as shown:
        shown.fill(sort="report")
        for number, name in enumerate(ODD_NAMES):
            href = href_of(shown, number)
            assert href
            assert unquote_to_bytes(href) == b"./../photos/50% #1?\xe9/" + name
            shown.page.keyboard.press("Enter")
            link = shown.page.get_by_role("link", name="Open the original")
            assert link.get_attribute("rel") == "noopener noreferrer"
            with shown.page.expect_popup() as popup:
                link.click()
            width = "document.querySelector('img').naturalWidth"
            popup.value.wait_for_function(f"{width} > 0")
            assert popup.value.evaluate(width) == 20 + number
            popup.value.close()
            shown.page.keyboard.press("Escape")


def test_only_photos_that_a_browser_can_open_are_linked(browser: Browser, tmp_path: Path) -> None:
    urls = (
        "https://host/dir/a b.jpg?size=1#x",
        "zip://dir/a.jpg::photos.zip",
        "zip://a.jpg::https://host/photos.zip",
        "s3://bucket/a.jpg",
    )
    rows = [Row(Url(url), Status.NO_FACE, source=Source.IMAGE, width=9, height=9) for url in urls]
    missing = Row(Path("gone.jpg"), Status.NO_FACE, missing=True, width=9, height=9)
    report = write_report(tmp_path / "r.csv", [*rows, missing])
    # A report of another program, which keeps secrets.
    text = report.read_text()
    report.write_text(text + text.splitlines()[1].replace("a b.jpg?size=1", "b.jpg?token=abc"))
    page, _ = make_report_page(report, gallery=0)
    assert page_data(page)["unlinked"] == [5]
    with open_page(browser, page) as shown:
        shown.fill(sort="report")
        hrefs = [href_of(shown, number) for number in range(6)]
    assert hrefs == [urls[0], None, None, None, None, None]
