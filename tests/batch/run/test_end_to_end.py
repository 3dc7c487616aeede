"""Whole runs of the command over hundreds of real photos from outside the repository."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.conftest import Command

# Photos of people.zip that show no person.
NOBODY = (
    *("3d178bd9f20f", "5daf0f908bfe", "98d87393a68c", "ace455649246", "cb12e2b6e769"),
    *("d3e90ade81c7", "d825875b48cc", "e47a2ae6dc08", "844b4e12a927", "9f7231b11694"),
    *("b2c7bf59bf6a", "b63f02041510", "d12d43ca7c08", "e290b1c80d07", "e6f412a627d1"),
    *("fd7be8dfade8", "ff5c1355badb"),
)


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
        assert "1 skipped" in ran.stderr  # the licence
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
    rows = [row for row in _rows(tmp_path / "faces.csv") if row["status"] == "ok"]
    right = [row["path"].split("/")[1] == row["label"] for row in rows]
    # 416 of the 570 show a face, and a third of these is neither; 92 % leaves room for noise.
    assert len(rows) >= 170
    assert sum(right) / len(right) >= 0.92
    assert command("people", "-q", "-o", "both.csv").returncode == ExitCode.OK
    both = _rows(tmp_path / "both.csv")
    assert {row["status"] for row in both} <= {"ok", "unsure", "neither", "no_person"}
    assert all(bool(row["label"]) is (row["status"] in ("ok", "unsure")) for row in both)
    assert sum(bool(row["label"]) for row in both) >= 0.85 * len(both)
    nobody = [row for row in both if any(name in row["path"] for name in NOBODY)]
    assert len(nobody) == len(NOBODY)
    assert sum(row["status"] == "no_person" for row in nobody) >= 0.8 * len(nobody)
