"""Absolute paths of photos, which must name the files that the system opens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from batch.applying.job import make_absolute
from batch.applying.transfer import GONE
from tests.support.applying import list_files, make_row, run_apply, save_samples, write_report


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("real/pics/a.jpg", "real/pics/a.jpg"),
        ("real/./pics//a.jpg", "real/pics/a.jpg"),
        ("real/pics/../pics/a.jpg", "real/pics/a.jpg"),
        ("link/a.jpg", "link/a.jpg"),
        ("link/../pics/a.jpg", "real/pics/a.jpg"),
        ("link/sub/../a.jpg", "link/a.jpg"),
        ("real/../link/sub/../../pics/a.jpg", "real/pics/a.jpg"),
        ("gone/../pics/a.jpg", "gone/../pics/a.jpg"),
    ],
)
def test_a_path_leads_where_the_system_opens_it(
    given: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("real/pics", "real/inner/sub", "pics"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("real/pics/a.jpg", "real/inner/a.jpg", "pics/a.jpg"):
        (tmp_path / file).write_text(file)
    (tmp_path / "link").symlink_to("real/inner")
    monkeypatch.chdir(tmp_path)

    found = make_absolute(Path(given))

    assert found == tmp_path / expected
    assert found.exists() == Path(given).exists()
    assert not found.exists() or found.samefile(given)


def test_the_photo_behind_a_link_is_moved_and_not_its_double(tmp_path: Path) -> None:
    save_samples(tmp_path / "real/photos")
    shutil.copytree(tmp_path / "real/photos", tmp_path / "photos")
    (tmp_path / "real/inner").mkdir()
    (tmp_path / "link").symlink_to("real/inner")
    rows = [make_row(tmp_path, "link/../photos/a/chelsea.png")]

    summary = run_apply(write_report(tmp_path / "r.csv", rows), move_to=tmp_path / "out")

    assert summary.done == {("move", "happy"): 1}
    assert "a/chelsea.png" in list_files(tmp_path / "photos")
    assert "a/chelsea.png" not in list_files(tmp_path / "real/photos")


def test_a_photo_after_a_folder_that_is_gone_is_gone(tmp_path: Path) -> None:
    save_samples(tmp_path / "photos")
    row = make_row(tmp_path, "photos/a/chelsea.png") | {"path": "gone/../photos/a/chelsea.png"}

    summary = run_apply(write_report(tmp_path / "r.csv", [row]), move_to=tmp_path / "out")

    assert summary.failed == {GONE: 1}
    assert "a/chelsea.png" in list_files(tmp_path / "photos")
