"""The page of the next run starts with the answers that were given before."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch.reading.reviews import ReviewError, ReviewLine, write_review_lines
from batch.records import Answer, Box, Row, Source, Status
from batch.reports.report import open_report
from batch.reviewing.reviews_file import set_aside
from tests.batch.page.test_review import HEADER, done, downloaded, press
from tests.conftest import Command
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import (
    LABELS,
    ROWS,
    make_answered_row,
    make_failed_row,
    make_report_page,
    page_data,
    write_report,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LEFT, RIGHT = Box(10, 10, 40, 50, 0.9), Box(100, 10, 40, 50, 0.9)


def digest_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def make_digested_row(path: str, happy: float = 0.6, of: str | None = None) -> Row:
    """Make a row with a digest, by default of its path."""
    return replace(make_answered_row(path, happy), sha256=digest_of(of or path))


def make_group_row(path: str, *boxes: Box) -> Row:
    """Make the row of a photo of several faces."""
    faces = tuple(
        Answer(Status.OK, "sad", 0.8 + n / 100, {"happy": 0.2 - n / 100, "sad": 0.8 + n / 100}, box)
        for n, box in enumerate(boxes)
    )
    row = Row(Path(path), Status.OK, faces[0], Source.FACE, faces, 200, 100)
    return replace(row, sha256=digest_of(path))


def make_line(row: Row, label: str, said: str = "", sha256: str | None = None) -> ReviewLine:
    digest = row.sha256.hex() if row.sha256 else ""
    return ReviewLine(
        str(row.path), digest if sha256 is None else sha256, None, None, said, 0.75, label
    )


def make_night(folder: Path, rows: Sequence[Row], per_face: bool = False) -> Path:
    """Write the report of a night to the usual place, and make its page."""
    report = write_report(folder / "results.csv", rows, LABELS, per_face)
    return make_report_page(report, gallery=0)[0]


def open_night(shown: BrowserPage, page: Path) -> list[dict[str, str]]:
    """Open the page of another night in the same browser; return the answers that it has."""
    shown.page.goto(page.as_uri())
    shown.page.wait_for_selector("#page:not([hidden])")
    return answers_in(shown)


def answers_in(shown: BrowserPage) -> list[dict[str, str]]:
    if shown.page.locator("#download").is_disabled():
        return []
    return list(csv.DictReader(io.StringIO(downloaded(shown))))


def test_the_next_night_starts_with_the_answers_of_the_last(
    browser: Browser, tmp_path: Path
) -> None:
    moved = make_digested_row("new/moved.jpg", of="b.jpg")
    first = make_night(
        tmp_path, [make_digested_row(n) for n in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    )
    with open_page(browser, first) as shown:
        for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
            press(shown, name, "sad")
        rows = [
            make_digested_row("0.jpg"),
            make_digested_row("a.jpg"),
            moved,
            make_digested_row("c.jpg", of="another photo of this name"),
        ]
        given = open_night(shown, make_night(tmp_path, rows))
        assert [(row["path"], row["label"]) for row in given] == [
            ("a.jpg", "sad"), ("new/moved.jpg", "sad"),
        ]  # fmt: skip
        assert given[1]["sha256"] == digest_of("b.jpg").hex()
        assert done(shown) == "2 of 4, 2"
        press(shown, "0.jpg", "happy")
        # The answers whose photos were not there are not lost.
        third = make_night(tmp_path, [make_digested_row(name) for name in ("c.jpg", "d.jpg")])
        assert [row["path"] for row in open_night(shown, third)] == ["c.jpg", "d.jpg"]
        assert [row["path"] for row in open_night(shown, make_night(tmp_path, rows))] == [
            "0.jpg", "a.jpg", "new/moved.jpg",
        ]  # fmt: skip


def test_rows_without_a_digest_are_matched_by_their_path(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, make_night(tmp_path, ROWS)) as shown:
        press(shown, "a.jpg", "sad")
        press(shown, "b.jpg", "sad")
        # The next version reports digests, and a.jpg could not be read that night.
        rows = [make_failed_row("album/a.jpg"), make_digested_row("album/b.jpg")]
        later = make_night(tmp_path, rows)
        assert [row["path"] for row in open_night(shown, later)] == ["album/b.jpg"]
        assert len(open_night(shown, make_night(tmp_path, ROWS))) == 2


def test_copies_of_a_photo_share_their_answer(browser: Browser, tmp_path: Path) -> None:
    copies = [make_digested_row("a.jpg"), make_digested_row("copy.jpg", of="a.jpg")]
    with open_page(browser, make_night(tmp_path, copies)) as shown:
        press(shown, "copy.jpg", "sad")
        assert done(shown) == "2 of 2, 2"
        assert shown.page.locator("li [data-label=sad][aria-pressed=true]").count() == 2
        assert len(answers_in(shown)) == 2


def test_faces_are_matched_by_their_boxes(browser: Browser, tmp_path: Path) -> None:
    first = make_night(tmp_path, [make_group_row("a.jpg", LEFT, RIGHT)], per_face=True)
    with open_page(browser, first) as shown:
        press(shown, "face 1", "happy")
        # A new detector numbers the faces in another order and draws other boxes.
        moved = replace(LEFT, left=LEFT.left + 5)
        later = make_night(tmp_path, [make_group_row("a.jpg", RIGHT, moved)], per_face=True)
        (given,) = open_night(shown, later)
        assert (given["face"], given["face_left"], given["label"]) == ("2", "15.0", "happy")
        far = replace(LEFT, left=LEFT.left + 30)
        later = make_night(tmp_path, [make_group_row("a.jpg", RIGHT, far)], per_face=True)
        assert open_night(shown, later) == []


def test_other_answers_are_bounded_and_the_rest_is_counted(
    browser: Browser, tmp_path: Path
) -> None:
    with open_page(browser, make_night(tmp_path, ROWS)) as shown:
        kept = [["", f"old/{number}.jpg", 0, [], "sad"] for number in range(10_003)]
        shown.page.evaluate(
            "kept => Object.keys(localStorage).forEach((key) => localStorage.setItem(key, kept))",
            json.dumps(kept),
        )
        shown.page.reload()
        assert shown.text("#storage") == (
            "The browser keeps 10,000 answers about photos that are not in this report; "
            "3 older ones are dropped."
        )
        press(shown, "a.jpg", "happy")
        shown.page.reload()
        assert done(shown) == "1 of 5, 0"
        assert not shown.page.locator("#storage").is_visible()


def test_a_page_starts_with_the_reviews_file(browser: Browser, tmp_path: Path) -> None:
    reviewed = replace(make_digested_row("a.jpg", 0.95), source=Source.REVIEW)
    rows = [reviewed, *map(make_digested_row, ("b.jpg", "c.jpg")), make_failed_row("f.jpg")]
    lines = [
        make_line(rows[1], "no_person", "happy"),
        make_line(rows[0], "happy", "sad"),
        make_line(rows[1], "sad", "no_person"),  # a later line overrides an earlier one
        make_line(make_digested_row("elsewhere.jpg"), "sad"),
        make_line(rows[2], "sad", sha256=digest_of("another photo of this name").hex()),
        make_line(rows[2], "glad"),
    ]
    (tmp_path / "results.csv.reviews.csv").write_text(write_review_lines(lines))
    page = make_night(tmp_path, rows)
    data = page_data(page)
    assert data["recorded"] == [
        [0, "happy", "sad", 7500, False],
        [1, "sad", "happy", 7500, False],
    ]
    assert data["facts"][-1] == [
        "Reviews",
        "2 reviewed, 2 about photos or faces that are not in this page, "
        "1 with labels that this report lacks",
    ]
    with open_page(browser, page) as shown:
        assert done(shown) == "2 of 3, 2"
        shown.names()  # brings them into sight
        assert "reviewed" in shown.page.locator("li", has_text="a.jpg").inner_text()
        assert "reviewed" not in shown.page.locator("li", has_text="b.jpg").inner_text()
        # They are in the reviews file already, and can be changed, but not cleared.
        assert shown.page.locator("#download").is_disabled()
        assert not shown.page.locator("li .clear").first.is_visible()
        press(shown, "a.jpg", "no person")
        assert done(shown) == "2 of 3, 2"
        assert downloaded(shown) == (
            f"{HEADER}\na.jpg,{digest_of('a.jpg').hex()},,170.0,60.0,110.0,130.0,sad,0.7500,"
            "no_person,\n"
        )
        shown.page.locator("li", has_text="a.jpg").focus()
        shown.page.keyboard.press("Enter")
        assert "The model said\nsad, 75.0 %" in shown.text("#closeup .facts")
        assert "a person\u2019s review" in shown.text("#closeup .facts")
        shown.page.keyboard.press("Delete")
        shown.page.keyboard.press("Escape")
        assert done(shown) == "2 of 3, 2"
        shown.fill(review="open")
        assert shown.names() == ["c.jpg"]


def test_an_answer_that_was_merged_gives_way_to_a_newer_one(
    browser: Browser, tmp_path: Path
) -> None:
    rows = [make_digested_row("a.jpg"), make_digested_row("b.jpg")]
    reviews = tmp_path / "results.csv.reviews.csv"
    with open_page(browser, make_night(tmp_path, rows)) as shown:
        press(shown, "a.jpg", "sad")
        reviews.write_text(write_review_lines([make_line(rows[0], "sad")]))
        assert open_night(shown, make_night(tmp_path, rows)) == []
        assert not shown.page.locator("li .clear").first.is_visible()
        reviews.unlink()  # nothing is lost
        (given,) = open_night(shown, make_night(tmp_path, rows))
        assert (given["path"], given["label"]) == ("a.jpg", "sad")
        # Another person has changed the answer since; an answer of this browser alone stays.
        press(shown, "b.jpg", "sad")
        reviews.write_text(write_review_lines([make_line(row, "no_person") for row in rows]))
        (given,) = open_night(shown, make_night(tmp_path, rows))
        assert (given["path"], given["label"]) == ("b.jpg", "sad")


def test_forgotten_answers_do_not_come_back_from_the_browser(
    browser: Browser, tmp_path: Path
) -> None:
    rows = [make_digested_row(name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    reviews = tmp_path / "results.csv.reviews.csv"
    with open_page(browser, make_night(tmp_path, rows)) as shown:
        press(shown, "a.jpg", "sad")
        press(shown, "b.jpg", "sad")
        press(shown, "c.jpg", "sad")
        # No page was made while these were in the reviews file; b.jpg was changed since.
        reviews.write_text(
            write_review_lines([make_line(rows[0], "sad"), make_line(rows[1], "happy")])
        )
        set_aside(reviews)
        # A photo that is not there that night is forgotten too.
        assert [row["path"] for row in open_night(shown, make_night(tmp_path, rows[1:]))] == [
            "b.jpg", "c.jpg",
        ]  # fmt: skip
        assert not shown.page.locator("#storage").is_visible()
        page = make_night(tmp_path, rows)
        assert [row["path"] for row in open_night(shown, page)] == ["b.jpg", "c.jpg"]
        assert shown.text("#storage") == (
            "The browser dropped 1 answer that --forget-reviews has set aside."
        )
        shown.page.reload()
        assert done(shown) == "2 of 3, 2"
        assert not shown.page.locator("#storage").is_visible()
        # The same answer counts if it is given again, until it is forgotten again.
        press(shown, "a.jpg", "sad")
        shown.page.reload()
        assert done(shown) == "3 of 3, 3"
        reviews.write_text(write_review_lines(make_line(row, "sad") for row in rows))
        assert open_night(shown, make_night(tmp_path, rows)) == []
        set_aside(reviews)
        assert open_night(shown, make_night(tmp_path, rows)) == []
        assert done(shown) == "0 of 3, 0"
        assert "dropped 3 answers that" in shown.text("#storage")


def test_a_forgotten_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.csv.reviews.old-1.csv").write_text("path,label\na.jpg,sad\n")
    (tmp_path / "results.csv.reviews.old-my.csv").write_text("another file")
    data = page_data(make_night(tmp_path, ROWS))
    (warning,) = data["warnings"]
    assert "results.csv.reviews.old-1.csv: reviews file" in warning
    assert data["forgotten"] == []


def test_a_reviewed_row_without_a_reviews_file_has_an_answer(
    browser: Browser, tmp_path: Path
) -> None:
    row = replace(make_digested_row("a.jpg", 0.95), source=Source.REVIEW)
    with open_page(browser, make_night(tmp_path, [row])) as shown:
        assert done(shown) == "1 of 1, 0"
        press(shown, "a.jpg", "sad")
        (given,) = answers_in(shown)
        assert (given["said"], given["confidence"], given["label"]) == ("", "", "sad")


def test_the_faces_of_a_reviews_file_are_matched_by_their_boxes(tmp_path: Path) -> None:
    group = make_group_row("a.jpg", RIGHT, replace(LEFT, left=15))
    assert group.sha256
    digest = group.sha256.hex()
    lines = [
        ReviewLine("old/a.jpg", digest, 1, LEFT, "sad", 0.5, "happy"),
        ReviewLine("old/a.jpg", digest, 3, Box(400, 400, 9, 9, 1.0), "sad", 0.5, "happy"),
        ReviewLine("a.jpg", digest, None, None, "sad", None, "happy"),
    ]
    (tmp_path / "results.csv.reviews.csv").write_text(write_review_lines(lines))
    data = page_data(make_night(tmp_path, [group], per_face=True))
    assert data["recorded"] == [[1, "happy", "sad", 5000, False]]


def test_the_reviews_of_a_dataset_lie_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    row = make_digested_row("a.jpg")
    dataset = tmp_path / "results"
    with open_report(f"{dataset}/", LABELS, False, io.BytesIO()) as file:
        file.add(row)
        file.publish()
    lines = write_review_lines([make_line(row, "sad", "happy")])
    (tmp_path / "results.reviews.csv").write_text(lines)
    page, _ = make_report_page(dataset, gallery=0)
    assert page_data(page)["recorded"] == [[0, "sad", "happy", 7500, False]]


def test_a_damaged_reviews_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.csv.reviews.csv").write_text("path,label\na.jpg,sad\n")
    with pytest.raises(ReviewError, match=r"results\.csv\.reviews\.csv does not have the columns"):
        make_night(tmp_path, ROWS)
    assert not (tmp_path / "results.html").exists()


def test_the_series_of_a_report_is_that_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = page_data(make_night(tmp_path, ROWS))["series"]
    assert page_data(make_night(tmp_path, ROWS[:2]))["series"] == series
    assert page_data(make_night(tmp_path / "other", ROWS))["series"] != series
    monkeypatch.chdir(tmp_path)
    page, _ = make_report_page(Path("results.csv"), gallery=0)
    assert page_data(page)["series"] == series


@pytest.mark.parametrize("options", [(), ("--per-face",)], ids=["photos", "faces"])
def test_applied_answers_are_shown_as_reviewed(
    browser: Browser, command: Command, photos: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    for args in (("photos", "-o", "r.csv", *options), ("report", "r.csv")):
        ran = command(*args)
        assert ran.returncode == 0, ran.stderr
    with open_page(browser, tmp_path / "r.html") as shown:
        press(shown, "astronaut.jpg", "neither")
        with shown.page.expect_download() as download:
            shown.page.click("#download")
        download.value.save_as(tmp_path / "review.csv")
        (before,) = answers_in(shown)
        (photos / "astronaut.jpg").rename(photos / "moved.jpg")
        for args in (
            ("review", "apply", "review.csv", "r.csv"),
            ("photos", "-o", "r.csv", *options),
            ("report", "r.csv"),
        ):
            ran = command(*args)
            assert ran.returncode == 0, ran.stderr
        assert open_night(shown, tmp_path / "r.html") == []
        assert shown.text("#done").startswith("1 of ")
        shown.names()
        assert "reviewed" in shown.page.locator("li", has_text="moved.jpg").inner_text()
        press(shown, "moved.jpg", "happy")
        (given,) = answers_in(shown)
    assert given == before | {"path": "photos/moved.jpg", "label": "happy"}
