"""All faces of a photo are shown with their boxes and answers, and no box leaves its picture."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from batch.records import Answer, Box, Row, Source, Status
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import (
    LABELS,
    make_answered_row,
    make_failed_row,
    make_report_page,
    write_photos,
    write_report,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# In a photo of 400 x 300 pixels: two neighbours, and one out of the view of the first.
BOXES = (Box(20, 20, 40, 50, 0.9), Box(70, 30, 40, 50, 0.8), Box(350, 240, 40, 50, 0.7))
MEASURE = """frames => frames.map((frame) => {
    const outer = frame.getBoundingClientRect();
    return [...frame.querySelectorAll(".box")].map((box) => {
        const inner = box.getBoundingClientRect();
        return [inner.left - outer.left, inner.top - outer.top, outer.right - inner.right,
            outer.bottom - inner.bottom];
    });
})"""


def make_group(path: str, boxes: tuple[Box, ...] = BOXES) -> Row:
    faces = tuple(
        Answer(
            Status.OK if n else Status.UNSURE, label, 0.6 + n / 10, {"happy": 0.5, "sad": 0.5}, b
        )
        for n, (label, b) in enumerate(zip(("sad", "happy", "sad"), boxes, strict=False))
    )
    return Row(Path(path), Status.OK, faces[0], Source.FACE, faces, 400, 300)


def margins(shown: BrowserPage, place: str) -> list[list[list[float]]]:
    """Measure from each box in each picture to the picture's edges, in CSS pixels."""
    found: list[list[list[float]]] = shown.page.locator(f"{place} .frame").evaluate_all(MEASURE)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, astronaut: Image.Image) -> Path:
    """A page with one row per face: a group, a portrait, and a photo without a face."""
    folder = tmp_path_factory.mktemp("faces")
    none = Row(Path("none.jpg"), Status.NO_FACE, width=400, height=300)
    one = replace(make_answered_row("one.jpg", 0.9), width=400, height=300)
    rows = [make_group("group.jpg"), one, none, make_failed_row("failed.jpg")]
    write_photos(folder, rows, astronaut.resize((400, 300)))
    return make_report_page(write_report(folder / "r.csv", rows, LABELS, per_face=True))[0]


def test_a_picture_shows_all_boxes_and_its_own_stands_out(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.fill(sort="report")
        shown.names()
        first = shown.page.locator("#items li").first
        assert first.locator(".box").count() == 2  # the third face is not in this view
        own = first.locator(".box.own")
        assert own.count() == 1
        assert first.locator(".box").last.get_attribute("class") == "box own"
        looks = first.locator(".box").evaluate_all(
            "boxes => boxes.map((box) => getComputedStyle(box).border)"
        )
        assert len(set(looks)) == 2
        assert shown.page.locator("#items li .tag").count() == 0


def test_an_enlarged_photo_lists_all_faces_with_their_answers(browser: Browser, page: Path) -> None:
    with open_page(browser, page) as shown:
        shown.fill(sort="report")
        shown.names()
        shown.page.locator("#items .picture").first.click()
        lines = shown.page.locator("#closeup .faces li").all_inner_texts()
        assert [line.split() for line in lines] == [
            ["Face", "1", "sad", "60.0", "%", "unsure"],
            ["Face", "2", "happy", "70.0", "%"],
            ["Face", "3", "sad", "80.0", "%"],
        ]
        assert shown.page.locator("#closeup .faces [aria-current]").inner_text() == lines[0]
        assert shown.page.locator("#closeup .tag").all_inner_texts() == ["2 happy", "1 sad"]
        assert shown.text("#closeup .facts").endswith("Faces\n3")
        shown.page.keyboard.press("ArrowRight")
        assert shown.page.locator("#closeup .faces [aria-current]").inner_text() == lines[1]
        for _ in range(2):
            shown.page.keyboard.press("ArrowRight")
        assert shown.text("#closeup-name") == "one.jpg, face 1"
        for place in (".faces", ".tag"):
            assert shown.page.locator(f"#closeup {place}").count() == 0
        assert shown.page.locator("#closeup .box.own").count() == 1


def test_faces_that_the_page_lacks_are_counted(
    browser: Browser, page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("batch.page.gather.MAX_ROWS", 2)
    report = write_report(tmp_path / "r.csv", [make_group("a.jpg")], LABELS, per_face=True)
    with open_page(browser, make_report_page(report)[0]) as shown:
        shown.page.keyboard.press("j")
        shown.page.keyboard.press("Enter")
        assert "Faces\n3, 2 of them in this page\n" in shown.text("#closeup .facts")


def test_a_report_per_photo_counts_faces_and_shows_the_main_one(
    browser: Browser, tmp_path: Path, astronaut: Image.Image
) -> None:
    whole = replace(make_group("whole.jpg"), source=Source.IMAGE)
    rows = [make_group("group.jpg"), whole]
    write_photos(tmp_path, rows, astronaut.resize((400, 300)))
    with open_page(browser, make_report_page(write_report(tmp_path / "r.csv", rows))[0]) as shown:
        shown.names()
        shown.page.locator("#items .picture").first.click()
        assert shown.page.locator("#closeup .box").count() == 1
        assert shown.page.locator("#closeup .faces").count() == 0
        assert "Faces\n3; the box is the main one" in shown.text("#closeup .facts")
        shown.page.keyboard.press("ArrowRight")
        assert shown.text("#closeup .facts").endswith("Faces\n3")


@pytest.mark.parametrize("per_face", [False, True], ids=["photos", "faces"])
def test_no_box_leaves_its_picture(
    browser: Browser, tmp_path: Path, astronaut: Image.Image, per_face: bool
) -> None:
    boxes = (Box(-30, -20, 80, 90, 0.9), Box(300, 250, 150, 100, 0.9), Box(30, 200, 60, 130, 0.9))
    rows = [make_group(f"{n}.jpg", (box, *boxes)) for n, box in enumerate(boxes)]
    write_photos(tmp_path, rows, astronaut.resize((400, 300)))
    report = write_report(tmp_path / "r.csv", rows, LABELS, per_face)
    context: dict[str, Any] = {"device_scale_factor": 1}
    with open_page(browser, make_report_page(report)[0], **context) as shown:
        shown.names()
        found = margins(shown, "#items")
        shown.page.locator("#items .picture").first.click()
        found += margins(shown, "#closeup")
        assert sum(map(len, found)) >= 4
        assert all(side >= -0.1 for boxes in found for box in boxes for side in box)


def test_a_note_hides_the_box_under_it(
    browser: Browser, tmp_path: Path, astronaut: Image.Image
) -> None:
    row = make_group("a.jpg", (Box(10, 10, 380, 280, 0.9),))
    report = write_report(tmp_path / "r.csv", [row])
    write_photos(tmp_path, [row], astronaut.resize((400, 300)))

    os.utime(report, (1e9, 1e9))
    with open_page(browser, make_report_page(report)[0]) as shown:
        shown.names()
        note = shown.page.locator("#items .note")
        assert note.inner_text() == "The file is newer than the report."
        assert note.evaluate(
            """note => {
                const { left, right, top, bottom } = note.getBoundingClientRect();
                const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
                return [over === note, getComputedStyle(note).backgroundColor];
            }"""
        ) == [True, "rgb(0, 0, 0)"]
