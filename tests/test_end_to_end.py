"""Whole runs of the command over hundreds of real photos, which lie outside the repository."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.conftest import Command


@pytest.fixture
def nine_hundred(shared_data: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(shared_data / "photos.zip") as archive:
        archive.extractall(tmp_path)
    return tmp_path / "photos"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_nine_hundred_photos(command: Command, nine_hundred: Path, tmp_path: Path) -> None:
    for name, workers, batch_size in (("one.csv", 1, 1), ("two.csv", 2, 64)):
        ran = command(
            "photos/", "-o", name, "--provider", "cpu",
            "--workers", str(workers), "--batch-size", str(batch_size),
        )  # fmt: skip
        assert ran.returncode == ExitCode.OK, ran.stderr
        assert "900 found" in ran.stderr
        assert "1 left out" in ran.stderr  # the licence
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    rows = _rows(tmp_path / "one.csv")
    photos = sorted(path.relative_to(tmp_path) for path in nine_hundred.rglob("*.jpg"))
    assert {row["path"] for row in rows} == {path.as_posix() for path in photos}
    assert len(rows) == len(photos) == 900
    assert sum(row["faces"] != "0" for row in rows) >= 0.95 * len(rows)


def test_web_photos_are_labelled_better_than_the_commonest_answer(
    command: Command, shared_data: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(shared_data / "people.zip") as archive:
        archive.extractall(tmp_path / "people")
    assert command("people", "-q", "-m", "happy-sad", "-o", "faces.csv").returncode == ExitCode.OK
    # Only the face model is judged here: the other has learnt from these photos.
    rows = [row for row in _rows(tmp_path / "faces.csv") if row["label"]]
    right = [row["path"].split("/")[1] == row["label"] for row in rows]
    # 416 of the 570 show a face; 87 % leaves room for noise, not for a fault.
    assert len(rows) >= 400
    assert sum(right) / len(right) >= 0.87
    assert command("people", "-q", "-o", "both.csv").returncode == ExitCode.OK
    assert all(row["label"] for row in _rows(tmp_path / "both.csv")), "every photo is answered"
