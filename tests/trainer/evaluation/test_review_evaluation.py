from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import InputError, UsageError
from tests.support.review_data import Row, is_held, write_review
from tests.support.tiny_models import bright_model, save_model
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import GONE_REASON
from trainer.evaluation.exported_models import open_model
from trainer.evaluation.review_evaluation import (
    compare_with_report,
    evaluate_review,
    evaluate_review_end_to_end,
    review_evaluation_to_json,
)
from trainer.evaluation.tables import format_review_evaluation, note_sample


def test_report_and_model_are_evaluated_separately() -> None:
    confirms = [False] * 4 + [True] * 6
    right = [True, True, True, False] + [True] * 5 + [False]
    found = compare_with_report(confirms, right, range(10))
    assert (found.corrections, found.confirmations) == (4, 6)
    assert (found.before.value, found.now.value) == (0.6, 0.8)
    assert [found.corrected.value, found.confirmed.value] == pytest.approx([3 / 4, 5 / 6])
    assert found.now.low < 0.8 < found.now.high
    text = format_review_evaluation(found)
    assert "  of 4 corrected     0.7500" in text
    assert "not a random sample" in text


def test_without_corrections_the_table_has_no_line_for_them() -> None:
    found = compare_with_report([True, True], [True, False], "ab")
    assert "corrected" not in format_review_evaluation(found)
    figures = review_evaluation_to_json(found)
    assert (figures["reviewed"], figures["corrected"]) == (2, None)


def test_a_share_that_is_whole_has_an_interval_and_faces_of_a_photo_do_not_narrow_it() -> None:
    of_photos = compare_with_report([True] * 20, [True] * 20, range(20))
    assert of_photos.now.value == of_photos.now.high == 1.0
    assert of_photos.now.low == pytest.approx(0.839, abs=0.001)
    of_faces = compare_with_report([True] * 20, [True] * 20, [0, 1] * 10)
    assert of_faces.now.low == pytest.approx(0.342, abs=0.001)


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    """A face model for which bright faces are happy."""
    return save_model(bright_model(), tmp_path / "bright.onnx")


def plain(folder: Path, level: int, held: bool) -> Path:
    """Write a uniform grey picture whose size makes it held out, or not."""
    for side in range(20, 60):
        path = folder / f"{level}-{side}.png"
        Image.new("L", (side, side), level).save(path)
        if is_held(path) is held:
            return path
        path.unlink()
    raise AssertionError


BOX: Row = {"face_left": 2, "face_top": 2, "face_width": 10, "face_height": 10}


def review_of(folder: Path, *rows: tuple[Path, str, str]) -> Review:
    written = [{"path": str(p), **BOX, "said": said, "label": label} for p, said, label in rows]
    return Review((write_review(folder / "review.csv", written),), folder)


def test_a_model_is_evaluated_on_held_out_or_all_samples(bright: Path, tmp_path: Path) -> None:
    review = review_of(
        tmp_path,
        (plain(tmp_path, 250, held=True), "sad", "happy"),
        (plain(tmp_path, 10, held=True), "sad", "sad"),
        (plain(tmp_path, 20, held=True), "happy", "no_person"),
        (plain(tmp_path, 240, held=False), "happy", "sad"),
    )
    held = evaluate_review(open_model(str(bright)), review, "test")
    assert (held.before.value, held.now.value, held.corrections) == (0.5, 1.0, 1)
    both = evaluate_review(open_model(str(bright)), review, "all")
    assert (both.corrections, both.corrected.value) == (2, 0.5)
    with pytest.raises(UsageError, match="a review has no split validation"):
        evaluate_review(open_model(str(bright)), review, "validation")


def test_a_split_without_samples_is_an_error(bright: Path, tmp_path: Path) -> None:
    review = review_of(tmp_path, (plain(tmp_path, 240, held=False), "happy", "sad"))
    with pytest.raises(InputError, match=r"review\.csv: no sample can be used"):
        evaluate_review(open_model(str(bright)), review, "test")


def test_end_to_end_labels_the_photos_again(tmp_path: Path, astronaut: Image.Image) -> None:
    path = tmp_path / "astronaut.png"
    astronaut.save(path)
    gone = tmp_path / "gone.png"
    rows: list[Row] = [
        {"path": "astronaut.png", "face": 1, **BOX, "said": "sad", "label": "happy"},
        {"path": "astronaut.png", "face": 2, **BOX, "said": "sad", "label": "no_person"},
        {"path": gone.name, "said": "sad", "label": "sad"},
    ]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    found = evaluate_review_end_to_end("default", review, "all")
    assert (found.corrections, found.confirmations, found.now.value) == (1, 0, 1.0)
    foreign = Review((write_review(tmp_path / "f.csv", [{**rows[0], "label": "angry"}]),), tmp_path)
    with pytest.raises(InputError, match=r"f\.csv, line 2 has the label 'angry'"):
        evaluate_review_end_to_end("happy-sad", foreign, "all")


def test_end_to_end_skips_photos_that_changed_since_they_were_reviewed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[Row] = [
        {"path": str(plain(tmp_path, level, held=True)), "said": "sad", "label": "no_person"}
        for level in (10, 250)
    ]
    rows[0]["sha256"] = "0a" * 32
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    with caplog.at_level(logging.INFO):
        assert evaluate_review_end_to_end("people", review, "all").corrections == 1
    assert "1: the photo has changed since it was reviewed (" in caplog.text


def test_end_to_end_labels_the_photos_of_the_split_alone(tmp_path: Path) -> None:
    review = review_of(
        tmp_path,
        (plain(tmp_path, 250, held=True), "no_person", "no_person"),
        (plain(tmp_path, 10, held=False), "no_person", "no_person"),
        (plain(tmp_path, 240, held=False), "no_person", "no_person"),
    )
    held_out, both = (evaluate_review_end_to_end("people", review, s) for s in ("test", "all"))
    assert (held_out.confirmations, both.confirmations) == (1, 3)


def test_abstain_classes_are_evaluated_if_the_model_has_them(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[Row] = [
        {"path": "photos/coffee.jpg", "said": "no_person", "label": "no_person"},
        {"path": "photos/astronaut.jpg", "said": "no_person", "label": "happy"},
    ]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    for found in (
        evaluate_review(open_model("people"), review, "all"),
        evaluate_review_end_to_end("default", review, "all"),
    ):
        assert (found.confirmations, found.corrections) == (1, 1)
        assert (found.before.value, found.confirmed.value) == (0.5, 1.0)
    with caplog.at_level(logging.INFO):
        alone = evaluate_review_end_to_end("happy-sad", review, "all")
    assert (alone.confirmations, alone.corrections) == (0, 1)
    assert "no_person is not one of happy, sad, neither (" in caplog.text


def test_a_random_sample_alone_measures_a_model(
    bright: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [plain(tmp_path, level, held=True) for level in (250, 240, 10, 20)]
    rows: list[Row] = [
        {
            "path": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **BOX,
            "said": "happy",
            "label": "happy",
            "sample": "random" if n < 2 else "",
        }
        for n, path in enumerate(paths)
    ]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    with caplog.at_level(logging.INFO):
        found = evaluate_review(open_model(str(bright)), review, "test")
    assert "4 held out (2 drawn at random, the others are not used)" in caplog.text
    assert (found.confirmations, found.now.value, found.is_random) == (2, 1.0, True)
    assert "a random sample of the report: these shares" in format_review_evaluation(found)
    assert review_evaluation_to_json(found)["random"] is True
    every = evaluate_review(open_model(str(bright)), review, "all")
    assert (every.confirmations, every.now.value, every.is_random) == (4, 0.5, False)
    assert "not a random sample" in format_review_evaluation(every)
    end_to_end = evaluate_review_end_to_end("people", review, "test")
    assert (end_to_end.confirmations, end_to_end.is_random) == (2, True)
    assert evaluate_review_end_to_end("people", review, "all").confirmations == 4


def test_a_part_of_the_random_sample_is_not_said_to_stand_for_all_photos(
    bright: Path, tmp_path: Path
) -> None:
    paths = [plain(tmp_path, level, held=True) for level in (250, 240, 10, 20, 30)]
    rows: list[Row] = [
        {
            "path": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            **BOX,
            "said": "happy",
            "label": "happy",
            "sample": "random",
        }
        for path in paths
    ]
    rows[2]["label"] = "neither"
    del rows[3]["face_left"], rows[3]["face_top"], rows[3]["face_width"], rows[3]["face_height"]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    paths[4].unlink()
    found = evaluate_review(open_model(str(bright)), review, "test")
    assert (found.confirmations, found.is_random) == (2, True)
    assert dict(found.missing) == {
        "neither is not one of happy, sad": 1,
        "the label was not derived from a face": 1,
        GONE_REASON: 1,
    }
    text = format_review_evaluation(found)
    assert "these shares are those of all" not in text
    assert "NOTE: 2 of 5 answers of the random sample are measured. 3 are missing" in text
    assert "- 1: the label was not derived from a face" in text
    assert review_evaluation_to_json(found)["missing"] == dict(found.missing)
    # A photo that is gone is counted and logged when photos are labelled again too.
    end_to_end = evaluate_review_end_to_end("happy-sad", review, "test")
    assert dict(end_to_end.missing) == {GONE_REASON: 1}
    assert end_to_end.confirmations + end_to_end.corrections == 4


def test_reasons_for_missing_answers_are_summed_from_the_sixth_on() -> None:
    missing = {f"reason {n}": n for n in range(1, 9)}
    lines = note_sample(True, 10, missing).splitlines()
    assert "10 of 46 answers" in lines[0]
    assert lines[1:] == [*(f"- {n}: reason {n}" for n in (8, 7, 6, 5, 4)), "- 6: other reasons"]
