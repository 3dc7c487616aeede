"""Photos that are moved, renamed, copied, replaced or deleted between two real runs."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.support.page_rows import make_report_page, page_data
from tests.support.runs import REPORT, RunFolder, make_photos

NUMBER = 12


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """A folder whose photos were labelled, and have changed their places since then."""
    place = RunFolder(tmp_path)
    photos = make_photos(tmp_path / "photos", NUMBER)
    (photos / "00011.jpg").write_bytes(b"\xff\xd8\xff no photo")
    place.label("--per-face")
    shutil.copy(place.report, tmp_path / "old.csv")
    album = photos / "album"
    album.mkdir()
    (photos / "00001.jpg").rename(album / "00001.jpg")
    (photos / "00002.jpg").rename(album / "other.jpg")
    (photos / "00003.jpg").rename(photos / "-three.jpg")
    shutil.copy(photos / "00004.jpg", album / "copy.jpg")
    shutil.copy(photos / "00005.jpg", album / "00005.jpg")
    shutil.copy(photos / "00005.jpg", album / "00005 (1).jpg")
    (photos / "00005.jpg").unlink()
    (photos / "00006.jpg").unlink()
    make_photos(tmp_path / "more", 1, first=101)
    (tmp_path / "more" / "00101.jpg").replace(photos / "00007.jpg")
    shutil.copy(photos / "00009.jpg", photos / "00008.jpg")
    (photos / "00011.jpg").rename(album / "00011.jpg")
    return place


def _compare(place: RunFolder, *args: str, code: int = 0) -> tuple[set[str], list[str]]:
    """Compare the two reports and return the changes and the lines of the summary."""
    command = ("diff", "old.csv", REPORT, "-o", "changes.csv", *args)
    ran = place.command(*command)
    assert ran.returncode == code, ran.stderr
    with open(place.folder / "changes.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {f"{row['change']} {row['old_path']}>{row['path']}" for row in rows}, (
        ran.stderr.splitlines()
    )


CHANGES = {
    "moved photos/00001.jpg>photos/album/00001.jpg",
    "moved photos/00002.jpg>photos/album/other.jpg",
    "renamed photos/00003.jpg>photos/-three.jpg",
    "new >photos/album/copy.jpg",
    "moved photos/00005.jpg>photos/album/00005.jpg",
    "new >photos/album/00005 (1).jpg",
    "gone >photos/00006.jpg",
    "gone >photos/00011.jpg",
    "new >photos/album/00011.jpg",
}


@pytest.mark.parametrize("args", [(), ("--keep-missing",)])
def test_moves_are_told_from_new_and_gone_photos(place: RunFolder, args: tuple[str, ...]) -> None:
    place.label("--per-face", "--max-gone", "0", *args)
    changes, summary = _compare(place, "--exit-code", code=1)
    answers = {change for change in changes if change.startswith("relabelled")}
    assert changes - answers == CHANGES
    assert answers <= {"relabelled >photos/00007.jpg", "relabelled >photos/00008.jpg"}
    unchanged = 2 - len(answers)
    assert (
        f"2 replaced by other bytes at the same path, {unchanged} of them otherwise unchanged"
        in (summary)
    )


def test_the_page_shows_the_same_changes(place: RunFolder) -> None:
    place.label("--per-face", "--max-gone", "0")
    page, _ = make_report_page(place.report, place.folder / "old.csv", gallery=0)
    data = page_data(page)
    _, summary = _compare(place)
    counts = [f"{count} {change}" for change, count, _ in data["changes"]["counts"]]
    assert summary[1].startswith(f"{', '.join(counts)};")
    moved = {change: old for _, change, _, old in data["changed"] if old}
    assert moved["renamed"] == "photos/00003.jpg"
    assert data["changes"]["note"] == ""
