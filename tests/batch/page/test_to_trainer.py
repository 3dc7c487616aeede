"""From a report through a review in the page to the samples that the trainer learns from."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from batch.path_text import parse_path_text, path_text, printable_text
from batch.records import Abstain, Box, Region
from batch.reports.columns import BOX_COLUMNS
from tests.batch.page.test_review import downloaded, press
from tests.conftest import REPOSITORY, Command
from tests.support.browser import open_page
from tests.support.review_data import is_held
from tests.support.trainer_data import write_folders
from trainer.datasets.dataset import Framing
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import ReviewedData, read_reviewed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HAPPY_SAD = ("happy", "sad")
CLASSES = (*HAPPY_SAD, *map(str, Abstain))
FACE = Framing(Region.FACE, side=48, channels=1)
PHOTO = Framing(Region.IMAGE, side=64, channels=3)
COLLINS, HOPPER = 'größe, "ja" 微笑.jpg', "a;-1\nb.jpg"
BUTTONS = {Abstain.NO_PERSON.value: "no person"}
# The smallest settings that a training run accepts.
SETTINGS = "widths = [8, 16, 32]\nbatch_size = 16\nepochs = 1\nthreads = 1\n"
SAMPLES = ("--region", "image", "--side", "32", "--rgb")


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    """A portrait of Grace Hopper, from matplotlib's sample data."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(path) as image:
        return image.convert("RGB")


def other(label: str) -> str:
    return next(one for one in HAPPY_SAD if one != label)


def answer_in(row: Mapping[str, str]) -> str:
    """Return a row's label, or its status if it has no label."""
    return row["label"] or row["status"]


def report_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "r.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def review_in(browser: Browser, folder: Path, answers: Mapping[str, str]) -> Review:
    """Answer some rows of the page, and download the review."""
    with open_page(browser, folder / "r.html") as shown:
        for name, label in answers.items():
            press(shown, name, BUTTONS.get(label, label))
        assert shown.text("#done").startswith(f"{len(answers)} of ")
        review = folder / "downloads" / "review.csv"
        review.parent.mkdir()
        review.write_bytes(downloaded(shown).encode())
    return Review((review,), folder)


def samples_of(reviewed: ReviewedData) -> dict[str, tuple[str, Box | None, bool]]:
    """Map each sample's name to its label, its box, and whether the report was right."""
    assert all(sample.split == "train" for sample in reviewed.learn)
    assert all(sample.split != "train" for sample in reviewed.held)
    both = (*reviewed.learn, *reviewed.held)
    said = {s.name: (reviewed.labels[s.label], s.box, s.confirms) for s in both}
    assert len(said) == len(both)
    return said


def box_in(row: Mapping[str, str]) -> Box:
    left, top, width, height = (float(row[name]) for name in BOX_COLUMNS)
    return Box(left, top, width, height, score=1.0)


def test_the_trainer_learns_from_reviewed_photos(
    browser: Browser,
    command: Command,
    photos: Path,
    hopper: Image.Image,
    tmp_path: Path,
) -> None:
    (photos / "astronaut.jpg").rename(photos / COLLINS)
    hopper.save(photos / HOPPER, quality=92)
    for args in (("photos", "-o", "r.csv"), ("report", "r.csv")):
        ran = command(*args)
        assert ran.returncode == 0, ran.stderr
    rows = {parse_path_text(row["path"]).name: row for row in report_of(tmp_path)}
    assert len(rows) == 4
    right = {
        COLLINS: other(answer_in(rows[COLLINS])),
        HOPPER: answer_in(rows[HOPPER]),
        "coffee.jpg": Abstain.NO_PERSON.value,
    }
    answers = {path_text(Path(name)): label for name, label in right.items()}
    review = review_in(browser, tmp_path, answers)

    names = {name: printable_text(str(photos / name)) for name in right}
    is_confirmed = answer_in(rows["coffee.jpg"]) == Abstain.NO_PERSON
    of_photos = read_reviewed(review, CLASSES, PHOTO)
    assert samples_of(of_photos) == {
        names[COLLINS]: (right[COLLINS], None, False),
        names[HOPPER]: (right[HOPPER], None, True),
        names["coffee.jpg"]: (right["coffee.jpg"], None, is_confirmed),
    }
    assert of_photos.skipped == ()
    of_faces = read_reviewed(review, CLASSES, FACE)
    assert samples_of(of_faces) == {
        names[COLLINS]: (right[COLLINS], box_in(rows[COLLINS]), False),
        names[HOPPER]: (right[HOPPER], box_in(rows[HOPPER]), True),
    }
    assert of_faces.skipped == ((names["coffee.jpg"], "the label was not derived from a face"),)

    said = _train(tmp_path, review)
    known = [name for name, label in right.items() if label in HAPPY_SAD]
    held, more = sum(is_held(photos / name) for name in known), len(right) - len(known)
    counts = f"{len(known) - held} reviewed samples to train on, {held} held out, {more} skipped"
    assert f"{review.files[0]}: {counts}\n" in said
    assert f"  1: no_person is not one of happy, sad ({names['coffee.jpg']})\n" in said


def test_the_trainer_learns_from_each_reviewed_face(
    browser: Browser,
    command: Command,
    astronaut: Image.Image,
    hopper: Image.Image,
    tmp_path: Path,
) -> None:
    group = Image.new("RGB", (1024, 600), "white")
    group.paste(astronaut, (0, 0))
    group.paste(hopper, (512, 0))
    (tmp_path / "photos").mkdir()
    group.save(tmp_path / "photos" / "two, of them.jpg", quality=92)
    for args in (("photos", "-o", "r.csv", "--per-face"), ("report", "r.csv")):
        ran = command(*args)
        assert ran.returncode == 0, ran.stderr
    rows = report_of(tmp_path)
    assert [row["face"] for row in rows] == ["1", "2"]
    review = review_in(browser, tmp_path, {"face 1": "happy", "face 2": "sad"})
    name = printable_text(str(tmp_path / "photos" / "two, of them.jpg"))
    reviewed = read_reviewed(review, HAPPY_SAD, FACE)
    assert samples_of(reviewed) == {
        f"{name}, face {row['face']}": (label, box_in(row), row["label"] == label)
        for row, label in zip(rows, HAPPY_SAD, strict=True)
    }
    assert reviewed.skipped == ()


def _train(folder: Path, review: Review) -> str:
    """Run the trainer as a user does, outside the report's folder; return its output."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "short.toml").write_text(SETTINGS)
    write_folders(elsewhere / "data", 30)
    ran = subprocess.run(
        [sys.executable, "-m", "trainer", "train", "--data", "data", "--run", "run",
         "--config", "short.toml", "--review", *map(str, review.files),
         "--photos", str(review.photos), *SAMPLES],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stderr
