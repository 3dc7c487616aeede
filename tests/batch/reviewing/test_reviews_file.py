"""The reviews file: which answers override each other, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.reading.reviews import ReviewError, ReviewLine, write_review_lines
from batch.records import Box
from batch.reviewing import reviews_file
from batch.reviewing.reviews_file import (
    Addition,
    Reviews,
    find_reviews_path,
    find_url_reviews_path,
    read_reviews,
    set_aside,
    write_reviews,
)

PHOTO = ReviewLine("a.jpg", "0a" * 32, None, None, "happy", 0.7, "sad")
FACE = replace(PHOTO, face=1, box=Box(10, 20, 30, 40, 1.0))


def test_later_answers_about_the_same_photo_or_face_override_earlier_ones() -> None:
    reviews = Reviews()
    other_face = replace(FACE, face=2, box=Box(26, 20, 30, 40, 1.0))  # overlaps by 0.30
    other_photo = replace(PHOTO, sha256="0b" * 32)
    for line in (PHOTO, FACE, other_face, other_photo):
        assert reviews.add(line) is Addition.NEW
    # From a page that was made after the correction, by a model with another box and number.
    again = replace(FACE, path="b.jpg", face=7, box=Box(12, 20, 30, 40, 1.0), label="neither")
    again = replace(again, said="sad", confidence=1.0)
    assert reviews.add(again) is Addition.CHANGED
    assert reviews.add(PHOTO) is Addition.SAME
    assert len(reviews) == 4
    assert list(reviews) == [
        PHOTO, replace(FACE, path="b.jpg", face=7, label="neither"), other_face, other_photo,
    ]  # fmt: skip


def test_reviews_are_read_back(tmp_path: Path) -> None:
    path, reviews = tmp_path / "r.csv.reviews.csv", Reviews()
    assert read_reviews(path) is None
    for line in (PHOTO, FACE):
        reviews.add(line)
    write_reviews(path, reviews)
    read = read_reviews(path)
    assert read is not None
    assert [replace(line, where="") for line in read] == [PHOTO, FACE]
    assert len(read.digest) == 64


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (b"", "has no columns in its first line"),
        (write_review_lines([PHOTO]).encode()[:-20], "line 2 is damaged (it has"),
        (write_review_lines([replace(PHOTO, sha256="")]).encode(), "line 2 can't be used: no SHA"),
        (write_review_lines([replace(FACE, box=None)]).encode(), "line 2 can't be used: no box"),
        (b"\0" * 300, "has more than 299 bytes"),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, damage: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews_file, "MAX_REVIEWS_BYTES", 299)
    path = tmp_path / "r.csv.reviews.csv"
    path.write_bytes(damage)
    with pytest.raises(ReviewError) as refused:
        read_reviews(path)
    assert said in refused.value.problem
    assert str(path) in refused.value.problem
    assert "run once with --forget-reviews" in refused.value.remedy


def test_too_many_reviews_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = Reviews()
    reviews.add(PHOTO)
    for name, limit in (("MAX_REVIEWS_BYTES", 100), ("MAX_REVIEW_LINES", 0)):
        with monkeypatch.context() as patched:
            patched.setattr(reviews_file, name, limit)
            with pytest.raises(ReviewError, match=r"would have 1 lines and 1\d\d bytes"):
                write_reviews(tmp_path / "r", reviews)
    assert not list(tmp_path.iterdir())


def test_a_file_is_set_aside_under_a_free_name(tmp_path: Path) -> None:
    for number in (1, 2):
        path = tmp_path / "r.csv.reviews.csv"
        path.write_text(str(number))
        backup = set_aside(path)
        assert backup == tmp_path / f"r.csv.reviews.old-{number}.csv"
        assert backup.read_text() == str(number)
    with pytest.raises(OutputError, match=r"r\.csv\.reviews\.csv"):
        set_aside(path)


def test_the_file_is_beside_the_report(tmp_path: Path) -> None:
    real = tmp_path / "real.csv"
    real.touch()
    (tmp_path / "link.csv").symlink_to(real)
    state = find_url_reviews_path("s3://bucket/results.csv", tmp_path)
    assert find_reviews_path(f"{tmp_path}/link.csv", None) == tmp_path / "real.csv.reviews.csv"
    assert find_reviews_path(f"{tmp_path}/results/", None) == tmp_path / "results.reviews.csv"
    assert find_reviews_path("s3://bucket/results.csv", state) == state
    assert state.name.startswith("bucket-results.csv-")
    assert state.name.endswith(".reviews.csv")
    assert find_reviews_path("-", state) is None
    assert find_reviews_path("/dev/null", state) is None
