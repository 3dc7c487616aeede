"""Files like review.csv are loaded into the page: parsed strictly, matched, and accounted for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch.reading.reviews import REVIEW_COLUMNS
from tests.batch.page.test_nights import (
    LEFT,
    RIGHT,
    answers_in,
    digest_of,
    make_digested_row,
    make_group_row,
    make_night,
)
from tests.batch.page.test_review import HEADER, done, press
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import ROWS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload

FORMER_HEADER = HEADER.replace("sha256,", "").replace(",sample", "")
ODD = 'a, "b".jpg'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [*ROWS, make_digested_row("dir/digested.jpg"), make_digested_row(ODD)]
    return make_night(tmp_path_factory.mktemp("load"), rows)


def load(shown: BrowserPage, **files: str | bytes) -> list[str]:
    """Load files by name, and return what the page says about each."""
    payloads: list[FilePayload] = [
        {
            "name": f"{name}.csv",
            "mimeType": "text/csv",
            "buffer": text if isinstance(text, bytes) else text.encode(),
        }
        for name, text in files.items()
    ]
    shown.page.set_input_files("#load-files", payloads)
    shown.page.wait_for_selector("#loaded:not([hidden])")
    shown.page.wait_for_timeout(100)
    return shown.page.locator("#loaded p").all_inner_texts()


def to_line(path: str, label: str, sha256: str = "", **others: str) -> str:
    row = dict.fromkeys(REVIEW_COLUMNS, "") | {"path": path, "sha256": sha256, "label": label}
    text = io.StringIO()
    csv.DictWriter(text, REVIEW_COLUMNS, lineterminator="\n").writerow(row | others)
    return text.getvalue()


def test_reviews_are_loaded_and_accounted_for(browser: Browser, page: Path) -> None:
    digest = digest_of("dir/digested.jpg").hex()
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        press(shown, "a.jpg", "sad")
        one = HEADER + "\n" + "".join(
            (
                to_line("album/a.jpg", "happy"),
                to_line("was/elsewhere.jpg", "sad", digest.upper()),
                to_line("other/f.jpg", "sad"),  # a failed photo
                to_line("nowhere.jpg", "sad"),
                to_line("album/b.jpg", "glad"),
                to_line("album/c.jpg", ""),
            )
        )  # fmt: skip
        # As a spreadsheet saves it, and from an earlier release.
        two = "\ufeff" + FORMER_HEADER + "\r\n"
        two += '"a, ""b"".jpg",,,,,,,,not_a_person\r\n\r\nalbum/a.jpg,,,,,,happy,0.95,sad'
        assert load(shown, one=one, two=two) == [
            "one.csv: 2 taken (1 replaced others), 2 without a row in this page, 2 invalid: line 6 "
            "has the label glad, which this report lacks; line 7 has no label.",
            "two.csv: 2 taken (1 replaced others), 0 without a row in this page, 0 invalid.",
        ]
        assert {row["path"]: row["label"] for row in answers_in(shown)} == {
            "album/a.jpg": "sad", "dir/digested.jpg": "sad", ODD: "no_person",
        }  # fmt: skip
        shown.page.click("#undo")  # of the whole second file
        assert {row["path"]: row["label"] for row in answers_in(shown)} == {
            "album/a.jpg": "happy", "dir/digested.jpg": "sad",
        }  # fmt: skip
        shown.page.reload()
        assert done(shown).startswith("2 of 7")


def test_a_downloaded_review_is_loaded_in_another_browser(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        press(shown, ODD, "sad")
        press(shown, "b.jpg", "happy")
        with shown.page.expect_download() as download:
            shown.page.click("#download")
        text = Path(download.value.path()).read_bytes()
    with open_page(browser, page) as shown:
        (said,) = load(shown, review=text)
        assert said.startswith("review.csv: 2 taken, 0 without a row")
        with shown.page.expect_download() as download:
            shown.page.click("#download")
        assert Path(download.value.path()).read_bytes() == text


def test_faces_are_loaded_by_their_boxes(browser: Browser, tmp_path: Path) -> None:
    page = make_night(tmp_path, [make_group_row("a.jpg", LEFT, RIGHT)], per_face=True)
    sides = {"face_left": "103", "face_top": "10", "face_width": "40", "face_height": "50.0"}
    with open_page(browser, page) as shown:
        (said,) = load(
            shown,
            review=f"{HEADER}\n"
            + to_line("b/a.jpg", "happy", digest_of("a.jpg").hex(), face="7", **sides)
            + to_line("a.jpg", "happy"),  # about the photo, of which this report has no row
        )
        assert said.startswith("review.csv: 1 taken, 1 without a row")
        (given,) = answers_in(shown)
        assert (given["face"], given["label"]) == ("2", "happy")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a.jpg,,,,,,,,,\n", "line 2 has 10 cells, not 11"),
        (to_line("", "sad"), "line 2 has no path"),
        (to_line("a.jpg", "sad", "0a" * 31), "line 2 has no SHA-256 in 64 hexadecimal digits"),
        (to_line("a.jpg", "sad", face="0"), "line 2 has no number of a face"),
        (to_line("a.jpg", "sad", face="1.5"), "line 2 has no number of a face"),
        (to_line("a.jpg", "sad", face_left="1"), "line 2 has no box"),
        (
            to_line("a.jpg", "sad", face_left="1", face_top="x", face_width="1", face_height="1"),
            "line 2 has no box",
        ),
        (
            to_line("a.jpg", "sad", face_left="1", face_top="1", face_width="1", face_height="0"),
            "line 2 has no box",
        ),
        (to_line("a.jpg", "sad", sample="mine"), "line 2 has the sample mine, not random"),
        (to_line("a.jpg", "sad", confidence="1.5"), "line 2 has no confidence between 0 and 1"),
        ('a"b.jpg,,,,,,,,,sad,\n', "line 2 has a stray or unclosed quote"),
        (
            '"a.jpg\nb,,,,,,,,,sad,\n',
            "line 2 has a stray or unclosed quote; the lines after it are not read",
        ),
        ('"a\nb.jpg",,,,,,,,,sad,\na.jpg,,,,,,,,,,\n', "line 4 has no label"),
        (to_line("a.jpg", "") * 7, "line 2 has no label; line 3 has no label; line 4 has no label; "
            "line 5 has no label; line 6 has no label; and 2 more"),
    ],
)  # fmt: skip
def test_invalid_lines_are_named(loader: BrowserPage, lines: str, said: str) -> None:
    (text,) = load(loader, review=f"{HEADER}\n{lines}")
    assert text.endswith(f" invalid: {said}.")
    assert text.startswith("review.csv: 0 taken")


@pytest.fixture(scope="module")
def loader(browser: Browser, page: Path) -> Iterator[BrowserPage]:
    with open_page(browser, page) as shown:
        yield shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "does not have the columns path,sha256,"),
        (b"path,status\na,ok\n", "does not have the columns path,sha256,"),
        (f"{HEADER.replace('path', chr(34))}\n".encode(), "does not have the columns"),
        (HEADER.encode() + b"\n\xff\xfe", "is not UTF-8"),
        (HEADER.encode("utf-16"), "is not UTF-8"),
    ],
)
def test_other_files_are_refused(loader: BrowserPage, text: bytes, said: str) -> None:
    (line,) = load(loader, other=text)
    assert line.startswith(f"other.csv {said}")
    assert line.endswith("give a review.csv as this page saves it.")


def test_files_can_be_dropped_on_the_page(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.page.evaluate(
            """(texts) => {
                const dataTransfer = new DataTransfer();
                for (const [name, text] of Object.entries(texts))
                    dataTransfer.items.add(new File([text], name));
                const options = { dataTransfer, bubbles: true, cancelable: true };
                const over = new DragEvent("dragover", options);
                document.body.dispatchEvent(over);
                if (!over.defaultPrevented) throw new Error("the browser would open the file");
                document.body.dispatchEvent(new DragEvent("drop", options));
            }""",
            {
                "one.csv": f"{HEADER}\n{to_line('album/a.jpg', 'sad')}",
                "two.csv": f"{HEADER}\n{to_line('album/b.jpg', 'sad')}",
            },
        )
        shown.page.wait_for_selector("#loaded:not([hidden])")
        assert shown.page.locator("#loaded p").count() == 2
        assert done(shown) == "2 of 7, 1"
