"""The random sample in the page: reviewed, measured, and saved as such."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from batch.reading.held_out import is_held_out, place_digest
from batch.reading.reviews import write_review_lines
from batch.records import Row, Source
from batch.share_interval import compute_share_interval
from tests.batch.page.test_nights import (
    LEFT,
    RIGHT,
    digest_of,
    make_digested_row,
    make_group_row,
    make_line,
    make_night,
    open_night,
)
from tests.batch.page.test_review import done, downloaded, press
from tests.support.browser import BrowserPage, open_page
from tests.support.page_rows import ROWS, make_report_page, write_photos, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = [f"{number}.jpg" for number in range(40)]
SAMPLED = sorted(
    (name for name in NAMES if is_held_out(digest_of(name).hex())),
    key=lambda name: place_digest(digest_of(name).hex()),
    reverse=True,
)


def saved(shown: BrowserPage) -> dict[str, dict[str, str]]:
    return {row["path"]: row for row in csv.DictReader(io.StringIO(downloaded(shown)))}


def interval(right: int, count: int) -> str:
    low, high = compute_share_interval(right / count, count)
    return f"({low:.1%} to {high:.1%})".replace("%", " %")


def test_the_sample_is_shown_measured_and_saved(
    browser: Browser, tmp_path: Path, astronaut: Image.Image
) -> None:
    rows = [make_digested_row(name, 0.6 + n / 200) for n, name in enumerate(NAMES)]
    write_photos(tmp_path, rows, astronaut)
    page, _ = make_report_page(write_report(tmp_path / "results.csv", rows))
    count = len(SAMPLED)
    assert count >= 5
    with open_page(browser, page) as shown:
        assert shown.text("#show-sample") == f"Random sample: 0 of {count} reviewed"
        assert shown.text("#show-chosen") == "To learn from: 0 of 1 reviewed"
        assert shown.text("#accuracy") == ""
        shown.page.click("#show-sample")
        assert shown.names() == SAMPLED  # the same pictures would be chosen in any order
        press(shown, SAMPLED[0], "happy")
        press(shown, SAMPLED[1], "sad")
        press(shown, SAMPLED[2], "happy")
        assert shown.text("#show-sample") == f"Random sample: 3 of {count} reviewed"
        assert shown.text("#accuracy") == (
            f"The model was right on 66.7 % of the random sample {interval(2, 3)}."
        )
        shown.page.click("#show-chosen")
        (chosen,) = shown.names()
        assert chosen not in SAMPLED
        press(shown, chosen, "sad")
        assert shown.text("#show-chosen") == "To learn from: 1 of 1 reviewed"
        # Other answers do not change what is measured.
        assert f"right on 66.7 % of the random sample {interval(2, 3)}" in shown.text("#accuracy")
        samples = {path: row["sample"] for path, row in saved(shown).items()}
        assert samples == {**dict.fromkeys(SAMPLED[:3], "random"), chosen: ""}


def test_a_later_page_asks_for_more_and_keeps_what_was_answered(
    browser: Browser, tmp_path: Path
) -> None:
    rows = [make_digested_row(name) for name in NAMES]
    reviews = tmp_path / "results.csv.reviews.csv"
    first, second, third = SAMPLED[:3]
    # The first was answered as a part of the sample, the second for another reason.
    lines = [
        replace(make_line(make_digested_row(name), "sad", "happy"), is_random=name == first)
        for name in (first, second)
    ]
    reviews.write_text(write_review_lines(lines))
    with open_page(browser, make_night(tmp_path, rows)) as shown:
        assert shown.text("#show-sample") == f"Random sample: 2 of {len(SAMPLED)} reviewed"
        assert f"right on 0.0 % of the random sample {interval(0, 2)}" in shown.text("#accuracy")
        shown.page.click("#show-sample")
        assert shown.names() == SAMPLED[2:]
        assert shown.page.locator("#download").is_disabled()
        press(shown, third, "happy")
        # The second belongs to the sample by its digest, so it is saved with the new answer.
        assert {path: (row["label"], row["said"]) for path, row in saved(shown).items()} == {
            second: ("sad", "happy"),
            third: ("happy", "happy"),
        }
        assert {row["sample"] for row in saved(shown).values()} == {"random"}
        more = [*rows, *(make_digested_row(f"new {number}.jpg") for number in range(20))]
        assert {row["path"] for row in open_night(shown, make_night(tmp_path, more))} == {
            second,
            third,
        }


def test_an_answer_whose_model_s_answer_is_unknown_measures_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    row = replace(make_digested_row(SAMPLED[0], 0.95), source=Source.REVIEW)
    with open_page(browser, make_night(tmp_path, [row])) as shown:
        assert done(shown) == "1 of 1, 0"
        assert shown.text("#accuracy") == ""
        press(shown, SAMPLED[0], "sad")
        assert saved(shown)[SAMPLED[0]]["sample"] == ""


def test_the_faces_of_a_photo_are_sampled_together(browser: Browser, tmp_path: Path) -> None:
    group: Row = make_group_row(SAMPLED[0], LEFT, RIGHT)
    with open_page(browser, make_night(tmp_path, [group], per_face=True)) as shown:
        assert shown.text("#show-sample") == "Random sample: 0 of 2 reviewed"
        shown.page.click("#as-list")
        press(shown, "face 1", "sad")
        press(shown, "face 2", "sad")
        assert f"right on 100.0 % of the random sample {interval(1, 1)}" in shown.text("#accuracy")


def test_a_report_without_digests_has_no_sets(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, make_night(tmp_path, ROWS)) as shown:
        assert not shown.page.locator("#review-sets").is_visible()
        assert not shown.page.locator("#show-sample").is_visible()
