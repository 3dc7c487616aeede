"""Whole runs with --salvage over truncated photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runs import REPORT, RunFolder, make_photos

MARK = "truncated: labelled from what is there"


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    photos = make_photos(tmp_path / "photos", 3)
    for name, share in (("most.jpg", 0.9), ("little.jpg", 0.1)):
        data = (photos / "00001.jpg").read_bytes()
        (photos / name).write_bytes(data[: int(share * len(data))])
    return RunFolder(tmp_path)


def test_a_truncated_photo_is_labelled_and_marked_in_every_format(place: RunFolder) -> None:
    for name in (REPORT, "r.jsonl", "r.parquet"):
        ran = place.run("photos", "-o", name, "--salvage")
        assert ran.returncode == 3, ran.stderr
        assert "; 1 salvaged; " in ran.stderr
    rows = place.rows()
    assert rows["photos/most.jpg"]["status"] in ("ok", "unsure", "no_face")
    assert rows["photos/most.jpg"]["error"].startswith(MARK)
    assert rows["photos/little.jpg"]["status"] == "failed"
    assert rows["photos/little.jpg"]["error"].startswith("truncated: ")
    assert rows["photos/00001.jpg"]["error"] == ""


def test_the_journal_keeps_the_mark_and_knows_the_option(place: RunFolder) -> None:
    first = place.label("--salvage")
    assert (first["labelled_now"], first["salvaged"]) == (5, 1)
    report = place.report.read_bytes()
    again = place.label("--salvage")
    assert (again["labelled_now"], again["salvaged"]) == (1, 1), "only what failed is tried again"
    assert place.report.read_bytes() == report
    without = place.label()
    assert (without["labelled_now"], without["salvaged"]) == (5, 0)
    assert without["by_reason"] == {"truncated": 2}
