from __future__ import annotations

from pathlib import Path

from PIL import Image

from batch.path_text import path_text
from batch.records import Box
from tests.support.review_data import Row, write_review
from trainer.datasets.dataset import Framing
from trainer.datasets.review import (
    Review,
    read_review,
    select_photo_verdicts,
)
from trainer.datasets.reviewed_samples import read_reviewed_samples

BOXED: Row = {"face_left": "-1.5", "face_top": 2, "face_width": "30.5", "face_height": 40}


def make_review(folder: Path, *rows: Row) -> Review:
    return Review((write_review(folder / "review.csv", rows),), folder / "photos")


def test_a_face_and_a_photo_are_read(tmp_path: Path) -> None:
    face, photo = read_review(
        make_review(
            tmp_path,
            {"path": "a.jpg", "face": 2, **BOXED, "said": "sad", "label": "happy"},
            {"path": "b.jpg", "said": "sad", "confidence": "0.6", "label": "sad"},
        )
    )
    assert (face.path, face.face) == (tmp_path / "photos" / "a.jpg", 2)
    assert face.box == Box(-1.5, 2, 30.5, 40, 1.0)
    assert (face.confirms, face.name.endswith("a.jpg, face 2")) == (False, True)
    assert (photo.face, photo.box, photo.confirms) == (None, None, True)
    assert photo.where == f"{tmp_path / 'review.csv'}, line 3"


def test_paths_are_the_report_s_texts(tmp_path: Path) -> None:
    odd = Path('=1+1;\n\\ ,"x".jpg')
    (verdict,) = read_review(make_review(tmp_path, {"path": path_text(odd), "label": "sad"}))
    assert verdict.path == tmp_path / "photos" / odd
    absolute = Review((write_review(tmp_path / "r.csv", [{"path": "/x/a", "label": "l"}]),), odd)
    assert read_review(absolute)[0].path == Path("/x/a")


def test_the_last_verdict_counts(tmp_path: Path) -> None:
    first = write_review(
        tmp_path / "1.csv",
        [
            {"path": "a", "label": "sad"},
            {"path": "a", "label": "happy"},
            {"path": "b", "label": "b"},
        ],
    )
    second = write_review(tmp_path / "2.csv", [{"path": "b", "label": "sad"}])
    verdicts = read_review(Review((first, second), tmp_path))
    assert [(v.path.name, v.label) for v in verdicts] == [("a", "happy"), ("b", "sad")]
    swapped = read_review(Review((second, first), tmp_path))
    assert {v.path.name: v.label for v in swapped} == {"a": "happy", "b": "b"}


def test_reviews_of_earlier_releases_are_read(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"path": "a", "label": "not_a_person"},
        {"path": "b", "said": "no_person", "label": "no_person"},
        {"path": "c", "said": "happy", "label": "neither"},
    ]
    verdicts = read_review(make_review(tmp_path, *rows))
    assert [v.label for v in verdicts] == ["no_person", "no_person", "neither"]
    assert [v.confirms for v in verdicts] == [False, True, False]


def test_a_box_that_is_not_a_face_says_nothing_about_the_photo(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"path": "photo", "label": "no_person"},
        {"path": "box", "face": 1, **BOXED, "label": "no_person"},
        {"path": "both", "face": 1, **BOXED, "label": "happy"},
        {"path": "both", "face": 2, **BOXED, "label": "no_person"},
        {"path": "second", "face": 1, **BOXED, "label": "no_person"},
        {"path": "second", "face": 2, **BOXED, "label": "happy"},
        {"path": "different", "face": 1, **BOXED, "label": "happy"},
        {"path": "different", "face": 2, **BOXED, "label": "neither"},
    ]
    photos, left_out = select_photo_verdicts(read_review(make_review(tmp_path, *rows)))
    assert {v.path.name: v.label for v in photos} == {"photo": "no_person", "both": "happy"}
    assert [reason for _, reason in left_out] == [
        "a box that is not a face says nothing about the photo",
        "the photo's main face was not reviewed",
        "the photo's faces have different labels",
    ]  # fmt: skip


def test_the_label_of_a_photo_is_that_of_the_photo_or_of_its_main_face(tmp_path: Path) -> None:
    faces = [
        ("photo", "", "sad"), ("photo", 1, "happy"), ("one", 1, "sad"), ("alike", 2, "sad"),
        ("alike", 1, "sad"), ("two", 1, "sad"), ("two", 2, "happy"), ("second", 2, "sad"),
    ]  # fmt: skip
    verdicts = read_review(
        make_review(tmp_path, *({"path": p, "face": n, "label": label} for p, n, label in faces))
    )
    photos, left_out = select_photo_verdicts(verdicts)
    assert {verdict.path.name: verdict.label for verdict in photos} == {
        "photo": "sad", "one": "sad", "alike": "sad",
    }  # fmt: skip
    assert [reason for _, reason in left_out] == [
        "the photo's faces have different labels", "the photo's main face was not reviewed",
    ]  # fmt: skip


def test_a_face_of_any_size_is_cropped_from_the_photo_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "photos" / "a.png")
    sides = {"face_left": -1e8, "face_top": -1e8, "face_width": 2e8, "face_height": 2e8}
    verdicts = read_review(
        make_review(tmp_path, {"path": "a.png", "face": 1, **sides, "label": "sad"})
    )
    framing = Framing(side=8, channels=1, margin=0.5)
    (sample,), left_out = read_reviewed_samples(verdicts, ("happy", "sad"), framing)
    assert sample.pixels.shape == (8, 8, 1)
    assert not left_out
