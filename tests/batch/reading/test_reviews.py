from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from batch.reading import reviews
from batch.reading.reviews import (
    FORMER_COLUMNS,
    REVIEW_COLUMNS,
    ReviewError,
    ReviewLine,
    is_review,
    read_review_file,
    write_review_lines,
)
from batch.records import Box
from tests.support.review_data import Row, write_review

SHA256, HELD_OUT = "0a" * 32, "cd" * 32
BOXED: Row = {"face_left": "-1.5", "face_top": "2.0", "face_width": "30.5", "face_height": "40.0"}


def read_lines(file: Path) -> list[ReviewLine]:
    return list(read_review_file(file))


def test_a_line_is_read_and_written_as_the_same_bytes(tmp_path: Path) -> None:
    about_face: Row = {"path": "a,b.jpg", "sha256": SHA256, "face": 2, **BOXED, "said": "sad"}
    file = write_review(
        tmp_path / "review.csv",
        [
            {
                **about_face,
                "face_top": "2.0",
                "face_height": "40.0",
                "confidence": "0.9000",
                "label": "happy",
            },
            {"path": "b.jpg", "label": "neither"},
            {"path": "c.jpg", "label": "sad", "sha256": HELD_OUT, "sample": "random"},
        ],
    )
    face, photo, sampled = lines = read_lines(file)
    assert face == ReviewLine(
        "a,b.jpg", SHA256, 2, Box(-1.5, 2, 30.5, 40, 1.0), "sad", 0.9, "happy", f"{file}, line 2"
    )
    assert (photo.sha256, photo.face, photo.box, photo.confidence) == ("", None, None, None)
    assert [line.is_random for line in lines] == [False, False, True]
    assert sampled.sha256 == HELD_OUT
    assert write_review_lines(lines) == file.read_text().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", FORMER_COLUMNS)
def test_a_review_of_an_earlier_version_is_read(tmp_path: Path, columns: Sequence[str]) -> None:
    row = {"path": "b.jpg", "sha256": SHA256, "confidence": "0.5", "label": "not_a_person"}
    file = tmp_path / "review.csv"
    cells = ",".join(row.get(name, "") for name in columns)
    file.write_text(f"{','.join(columns)}\n{cells}\n")
    (line,) = read_lines(file)
    digest = SHA256 if "sha256" in columns else ""
    assert (line.path, line.sha256, line.label) == ("b.jpg", digest, "no_person")
    assert not line.is_random
    assert is_review(file)
    assert not is_review(tmp_path)


def test_a_review_of_too_many_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "MAX_REVIEW_LINES", 1)
    rows: list[Row] = [{"path": "a", "label": "sad"}] * 2
    with pytest.raises(ReviewError, match=r"review\.csv has more than 1 lines; split the file"):
        read_lines(write_review(tmp_path / "review.csv", rows))


def test_the_columns_are_those_of_the_contract() -> None:
    header = "path,sha256,face,face_left,face_top,face_width,face_height,said,confidence,label"
    assert ",".join(REVIEW_COLUMNS) == f"{header},sample"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"path": "", "label": "sad"}, "line 2 has no path"),
        ({"path": "a", "label": ""}, "line 2 has no label"),
        ({"path": "a", "label": "sad", "face": "first"}, r"line 2 is invalid \(invalid"),
        ({"path": "a", "label": "sad", "face_left": 1}, "line 2 is invalid"),
        ({"path": "a", "label": "sad", **BOXED, "face_width": 0}, "0 x 40 pixels are not a face"),
        ({"path": "a", "label": "sad", **BOXED, "face_top": "nan"}, "pixels are not a face"),
        ({"path": "a", "label": "sad", **BOXED, "face_left": 1e308}, "pixels are not a face"),
        ({"path": "a", "label": "sad", **BOXED, "face_height": 1e10}, "pixels are not a face"),
        ({"path": "a", "label": "sad", "face": 10**12}, "is not the number of a face"),
        ({"path": "a", "label": "sad", "face": -1}, "is not the number of a face"),
        ({"path": "a\\x00b", "label": "sad"}, "has a NUL"),
        ({"path": "a\0b", "label": "sad"}, "has a NUL|contains NUL"),
        ({"path": "a\\q", "label": "sad"}, "is not an escape"),
        ({"path": "a", "label": "sad", "sha256": "0a" * 31}, "is not a SHA-256"),
        ({"path": "a", "label": "sad", "confidence": "nan"}, "nan is not a confidence"),
        ({"path": "a", "label": "sad", "sample": "mine"}, "mine is not a sample: it is random or"),
        ({"path": "a", "label": "sad", "sample": "random"}, "is in no random sample"),
        (
            {"path": "a", "label": "sad", "sha256": SHA256, "sample": "random"},
            "with this SHA-256, or without one, is in no random sample",
        ),
    ],
)
def test_an_invalid_line_is_named(tmp_path: Path, row: Row, said: str) -> None:
    with pytest.raises(ReviewError, match=said):
        read_lines(write_review(tmp_path / "review.csv", [row]))


def test_a_file_that_is_not_a_review_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    with pytest.raises(ReviewError, match=r"results\.csv can't be read \(No such file"):
        read_lines(file)
    file.write_text("path,status,label\na,ok,sad\n")
    with pytest.raises(ReviewError, match=r"results\.csv does not have the columns path,sha256"):
        read_lines(file)
    file.write_text(",".join(REVIEW_COLUMNS) + "\na,b\n")
    with pytest.raises(ReviewError, match=r"line 2 is damaged \(it has 2 fields, not 11"):
        read_lines(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ReviewError, match=r"line 1 is damaged \(not UTF-8"):
        read_lines(file)


def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReviewError, match=r"pipe can't be read \(not a regular file") as refused:
        read_lines(tmp_path / "pipe")
    assert "review.csv" in refused.value.remedy
