"""The review in the page: answers are given, stored, undone, and downloaded as review.csv."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from batch.records import Answer, Box, Row, Source, Status
from tests.support.browser import BrowserPage, open_page, watch_page
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
    from playwright.sync_api import Browser, Dialog

HEADER = "path,sha256,face,face_left,face_top,face_width,face_height,said,confidence,label,sample"
NO_STORAGE = """Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("no", "SecurityError"); },
});"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Path:
    folder = tmp_path_factory.mktemp("review")
    write_photos(folder, ROWS, astronaut.resize((512, 512)))
    return make_report_page(write_report(folder / "results.csv"))[0]


def press(shown: BrowserPage, name: str, label: str) -> None:
    shown.names()  # brings them into sight
    card = shown.page.locator("#items li", has_text=name)
    card.get_by_role("button", name=label, exact=True).click()


def done(shown: BrowserPage) -> str:
    return shown.page.locator("#done").inner_text() + ", " + shown.text("#corrected")


def downloaded(shown: BrowserPage) -> str:
    with shown.page.expect_download() as download:
        shown.page.click("#download")
    assert download.value.suggested_filename == "review.csv"
    return Path(download.value.path()).read_bytes().decode()


def test_answers_are_counted_and_downloaded_in_the_report_s_order(
    browser: Browser, page: Path
) -> None:
    with open_page(browser, page) as shown:
        assert done(shown) == "0 of 5, 0"
        assert shown.page.locator("#download").is_disabled()
        press(shown, "e.jpg", "no person")
        press(shown, "d.jpg", "happy")
        press(shown, "a.jpg", "happy")
        assert done(shown) == "3 of 5, 2"
        assert downloaded(shown) == (
            f"{HEADER}\n"
            "album/a.jpg,,,170.0,60.0,110.0,130.0,happy,0.9500,happy,\n"
            "other/d.jpg,,,,,,,sad,0.6200,happy,\n"
            "other/e.jpg,,,,,,,,,no_person,\n"
        )


def test_keys_answer_and_go_on(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        keyboard = shown.page.keyboard
        keyboard.press("1")  # no photo has the focus
        assert done(shown) == "0 of 5, 0"
        for key in ("j", "2", "0", "a"):  # c.jpg, d.jpg, b.jpg
            keyboard.press(key)
        assert done(shown) == "3 of 5, 2"
        shown.page.click("#as-list")
        shown.fill(review="done", sort="report")
        assert shown.names() == ["b.jpg", "c.jpg", "d.jpg"]
        shown.fill(review="corrected")
        assert shown.names() == ["c.jpg", "d.jpg"]
        shown.fill(review="open")
        assert shown.names() == ["a.jpg", "e.jpg"]
        labels = [row["label"] for row in csv.DictReader(io.StringIO(downloaded(shown)))]
        assert labels == ["sad", "sad", "no_person"]


def test_abstentions_are_confirmed_and_corrected_as_labels_are(
    browser: Browser, tmp_path: Path
) -> None:
    page, _ = make_report_page(write_report(tmp_path / "r.csv", EVERY_ROW, OUTPUTS))
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        press(shown, "h.jpg", "neither")
        press(shown, "a.jpg", "no person")
        assert done(shown) == "2 of 7, 1"
        shown.fill(sort="report")
        shown.page.locator("#items li", has_text="h.jpg").focus()
        for key in ("-", "a"):  # h.jpg, i.jpg
            shown.page.keyboard.press(key)
        shown.page.locator("#items li", has_text="d.jpg").focus()
        for key in ("-", "a"):  # e.jpg has no answer that could be right
            shown.page.keyboard.press(key)
        assert done(shown) == "4 of 7, 2"
        shown.fill(review="corrected")
        assert shown.names() == ["a.jpg", "d.jpg"]
        assert downloaded(shown) == (
            f"{HEADER}\n"
            "album/a.jpg,,,170.0,60.0,110.0,130.0,happy,0.9500,no_person,\n"
            "other/d.jpg,,,,,,,sad,0.6200,neither,\n"
            "album/h.jpg,,,170.0,60.0,110.0,130.0,neither,0.9000,neither,\n"
            "other/i.jpg,,,,,,,no_person,0.4000,no_person,\n"
        )


def test_an_enlarged_photo_can_be_reviewed(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.page.locator("li .picture").first.click()
        shown.page.keyboard.press("2")
        assert shown.text("#closeup-name") == "d.jpg"
        shown.page.locator("#closeup").get_by_role("button", name="happy", exact=True).click()
        assert (
            shown.page.locator("#closeup [data-label=happy]").get_attribute("aria-pressed")
            == "true"
        )
        shown.page.keyboard.press("Escape")
        assert done(shown) == "2 of 5, 2"


def test_answers_can_be_undone_and_cleared(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        press(shown, "a.jpg", "sad")
        press(shown, "a.jpg", "happy")
        assert done(shown) == "1 of 5, 0"
        shown.page.keyboard.press("u")
        assert done(shown) == "1 of 5, 1"
        shown.page.click("#undo")
        assert done(shown) == "0 of 5, 0"
        assert shown.page.locator("#undo").is_disabled()
        press(shown, "b.jpg", "sad")
        press(shown, "b.jpg", "sad")  # a second press changes nothing
        assert done(shown) == "1 of 5, 0"
        shown.page.get_by_role("button", name="Clear the answer for b.jpg").click()
        assert done(shown) == "0 of 5, 0"
        assert shown.page.get_by_role("button", name="Clear the answer").count() == 0
        shown.page.keyboard.press("u")
        assert done(shown) == "1 of 5, 0"
        pressed = shown.page.locator("li", has_text="b.jpg").locator("[aria-pressed=true]")
        assert pressed.all_text_contents() == ["sad"]


def test_answers_outlive_a_reload_and_belong_to_their_report(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    other, _ = make_report_page(write_report(tmp_path / "other.csv", ROWS[:4]))
    with open_page(browser, page) as shown:
        press(shown, "c.jpg", "no person")
        shown.page.reload()
        assert done(shown) == "1 of 5, 1"
        shown.page.goto(other.as_uri())
        assert done(shown) == "0 of 4, 0"
        shown.page.goto(page.as_uri())
        assert done(shown) == "1 of 5, 1"
        assert "album/c.jpg" in downloaded(shown)


def test_two_windows_of_a_page_share_their_answers(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        other = watch_page(shown.page.context.new_page())
        other.page.goto(page.as_uri())
        press(other, "c.jpg", "sad")
        shown.page.wait_for_timeout(300)
        assert done(shown) == "1 of 5, 1"
        press(shown, "d.jpg", "happy")
        other.page.wait_for_timeout(300)
        assert done(other) == "2 of 5, 2"
        assert not other.complaints


@pytest.mark.parametrize(
    ("kept", "count"),
    [
        ("{", 0),
        ("17", 0),
        ('[17, null, ["", "album/a.jpg", 0, 5, "sad"], ["", 7, 0, [], "sad"]]', 0),
        ('[["", "album/a.jpg", 0, [], "glad"], ["", "album/b.jpg", 0, [], "happy"]]', 1),
    ],
)
def test_damaged_answers_are_ignored(browser: Browser, page: Path, kept: str, count: int) -> None:
    with open_page(browser, page) as shown:
        shown.page.evaluate(
            "kept => Object.keys(localStorage).forEach((key) => localStorage.setItem(key, kept))",
            kept,
        )
        shown.page.reload()
        assert done(shown) == f"{count} of 5, {count}"


@pytest.mark.parametrize("kept", ["{", '[[999,"sad"],[0,"glad"],[4,"not_a_person"]]'])
def test_answers_of_an_earlier_release_are_kept(browser: Browser, page: Path, kept: str) -> None:
    digest = hashlib.sha256(page.with_suffix(".csv").read_bytes()).hexdigest()
    with open_page(browser, page) as shown:
        shown.page.evaluate(
            """([digest, kept]) => {
                localStorage.clear();
                localStorage.setItem(`batch-label review ${digest}`, kept);
            }""",
            [digest, kept],
        )
        shown.page.reload()
        if "person" in kept:
            assert done(shown) == "1 of 5, 1"
            assert downloaded(shown).endswith("other/e.jpg,,,,,,,,,no_person,\n")
        else:
            assert done(shown) == "0 of 5, 0"


def test_pressing_enter_or_space_on_an_answer_never_takes_it_back(
    browser: Browser, page: Path
) -> None:
    with open_page(browser, page) as shown:
        keyboard = shown.page.keyboard
        press(shown, "b.jpg", "sad")  # the button keeps the focus
        for key in ("Enter", "Space", "Enter"):
            keyboard.press(key)
            assert done(shown) == "1 of 5, 0", key
        assert not shown.page.locator("#closeup").is_visible()
        shown.page.locator("li", has_text="b.jpg").focus()
        keyboard.press("Enter")
        shown.page.locator("#closeup").get_by_role("button", name="sad", exact=True).focus()
        for key in ("Enter", "Space"):
            keyboard.press(key)
            assert done(shown) == "1 of 5, 0", key
        keyboard.press("Delete")
        assert done(shown) == "0 of 5, 0"


def test_every_listed_key_acts_and_no_other_changes_an_answer(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        keyboard = shown.page.keyboard
        shown.page.click("#help")
        listed = shown.page.locator("#key-list kbd").all_text_contents()
        keyboard.press("Escape")
        names = {"\u2190": "ArrowLeft", "\u2192": "ArrowRight", "\u2191": "ArrowUp",
                 "\u2193": "ArrowDown", "to": "2"}  # fmt: skip
        keys = [names.get(key, key) for text in listed for key in text.replace(",", "").split()]
        shown.page.evaluate(
            """() => addEventListener("keydown", (event) => {
                window.isHandled = event.defaultPrevented;
            })"""
        )

        def is_handled(key: str) -> bool:
            keyboard.press("Escape")
            shown.page.locator("li", has_text="b.jpg").focus()
            if key == "Escape":
                keyboard.press("Enter")
            keyboard.press(key)
            return bool(shown.page.evaluate("window.isHandled"))

        # The report has two labels, so the ninth key has none.
        assert [key for key in keys if not is_handled(key)] == ["9"]
        others = {*"bcdefghilmopqrstvwxyz", *"ABCJKNU", " ", "Tab", "Insert", "PageUp", "F2"}
        assert {key for key in others if is_handled(key)} == set()


def test_an_answer_of_a_list_is_taken_back_by_its_control_alone(
    browser: Browser, tmp_path: Path
) -> None:
    labels = tuple(f"mood {number}" for number in range(5))
    shares = dict.fromkeys(labels, 0.2)
    answer = Answer(Status.OK, "mood 3", 0.2, shares)
    row = Row(Path("a.jpg"), Status.OK, answer, Source.IMAGE, (), 9, 9)
    page, _ = make_report_page(write_report(tmp_path / "r.csv", [row], labels))
    with open_page(browser, page) as shown:
        select = shown.page.locator("li select")
        select.select_option("mood 1")
        assert select.locator("option").first.get_attribute("disabled") is not None
        shown.page.get_by_role("button", name="Clear the answer for a.jpg").click()
        assert done(shown) == "0 of 1, 0"
        assert shown.page.evaluate("document.activeElement.tagName") == "SELECT"


def test_a_browser_without_storage_warns(browser: Browser, page: Path) -> None:
    with open_page(browser, page, NO_STORAGE) as shown:
        assert "does not store answers" in shown.text("#storage")
        asked: list[str] = []

        def accept(dialog: Dialog) -> None:
            asked.append(dialog.type)
            dialog.accept()

        shown.page.on("dialog", accept)
        press(shown, "a.jpg", "sad")
        assert done(shown) == "1 of 5, 1"
        assert "album/a.jpg" in downloaded(shown)
        press(shown, "b.jpg", "happy")
        shown.page.reload()
        assert asked == ["beforeunload"]
        assert done(shown) == "0 of 5, 0"


def test_a_failed_photo_can_not_be_reviewed(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        shown.fill(status="failed")
        assert shown.page.locator("li", has_text="f.jpg").locator(".choices").count() == 0
        shown.names()
        shown.page.locator("#items li").first.focus()
        shown.page.keyboard.press("1")
        assert done(shown) == "0 of 5, 0"


def test_faces_have_numbers_and_odd_names_are_quoted(browser: Browser, tmp_path: Path) -> None:
    faces = tuple(
        Answer(Status.OK, label, 0.8, {"happy": 0.2, "sad": 0.8}, Box(left, 5, 30, 40.25, 0.9))
        for label, left in (("sad", 10.0), ("sad", -3.5))
    )
    two = Row(Path('a, "b".jpg'), Status.OK, faces[0], Source.FACE, faces, 200, 100)
    page, _ = make_report_page(
        write_report(tmp_path / "r.csv", [two, make_answered_row("=c.jpg", 0.9)], per_face=True)
    )
    with open_page(browser, page) as shown:
        shown.page.click("#as-list")
        press(shown, "face 2", "happy")
        press(shown, "./", "sad")
        rows = list(csv.DictReader(io.StringIO(downloaded(shown))))
    assert rows[0] == {
        "path": 'a, "b".jpg',
        "sha256": "",
        "face": "2",
        "face_left": "-3.5",
        "face_top": "5.0",
        "face_width": "30.0",
        "face_height": "40.2",
        "said": "sad",
        "confidence": "0.8000",
        "label": "happy",
        "sample": "",
    }
    assert [(row["path"], row["face"]) for row in rows] == [('a, "b".jpg', "2"), ("./=c.jpg", "1")]
