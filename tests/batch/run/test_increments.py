"""A second run after photos, options or models have changed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.support.runs import REPORT, RunFolder, make_photos, unprivileged_prefix
from tests.support.tiny_models import bright_model, bright_spec, save_model

NUMBER = 20
FIRST, SECOND, THIRD, LAST = (f"photos/{n:05}.jpg" for n in (0, 1, 2, NUMBER - 1))
FUTURE = 4_000_000_000
PAST = 86_400


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """A folder whose photos were labelled already."""
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", NUMBER)
    assert place.label()["labelled_now"] == NUMBER
    return place


def _fresh(place: RunFolder, *args: str) -> bytes:
    """Return the report of a run with a new journal."""
    ran = place.run("photos", "-o", "fresh.csv", "--fresh", *args)
    assert ran.returncode in (0, 3), ran.stderr
    return (place.folder / "fresh.csv").read_bytes()


def _replace(photo: Path, number: int) -> None:
    """Replace a photo by another one."""
    make_photos(photo.parent / "new", 1, first=number)
    (photo.parent / "new" / f"{number:05}.jpg").replace(photo)
    (photo.parent / "new").rmdir()


def test_nothing_is_labelled_if_nothing_has_changed(place: RunFolder) -> None:
    report = place.report.read_bytes()
    counts = place.label()
    assert (counts["labelled_now"], counts["reused"]) == (0, NUMBER)
    assert place.report.read_bytes() == report == _fresh(place)


def test_only_what_is_new_or_has_changed_is_labelled(place: RunFolder) -> None:
    photos = place.folder / "photos"
    _replace(place.folder / FIRST, 101)
    make_photos(photos, 1, first=102)
    (photos / "moved").mkdir()
    (place.folder / SECOND).rename(photos / "moved" / "elsewhere.jpg")
    shutil.copy(place.folder / THIRD, photos / "again.jpg")
    (place.folder / LAST).unlink()
    counts = place.label()
    assert counts["found"] == NUMBER + 1
    assert counts["labelled_now"] == 2
    assert place.report.read_bytes() == _fresh(place)
    assert {FIRST, "photos/00102.jpg", "photos/moved/elsewhere.jpg"} <= set(place.rows())
    assert not {SECOND, LAST} & set(place.rows())


def test_a_photo_that_was_missing_in_one_run_is_labelled_again(place: RunFolder) -> None:
    (place.folder / FIRST).rename(place.folder / "away.jpg")
    assert place.label()["found"] == NUMBER - 1
    (place.folder / "away.jpg").rename(place.folder / FIRST)
    assert place.label()["labelled_now"] == 1


@pytest.mark.parametrize("seconds", [FUTURE, PAST, -PAST])
def test_the_clock_may_have_been_wrong_when_a_photo_was_written(
    place: RunFolder, seconds: int
) -> None:
    report = place.report.read_bytes()
    os.utime(place.folder / FIRST, (seconds, seconds))
    counts = place.label()
    # It was read, and found to be the same.
    assert counts["labelled_now"] == 0
    assert place.report.read_bytes() == report
    _replace(place.folder / FIRST, 101)
    os.utime(place.folder / FIRST, (seconds - 1, seconds - 1))
    assert place.label()["labelled_now"] == 1
    assert place.label()["labelled_now"] == 0
    assert place.report.read_bytes() == _fresh(place) != report


def test_a_photo_put_in_place_with_the_size_and_time_of_another_is_seen(place: RunFolder) -> None:
    photo, before = place.folder / FIRST, (place.folder / FIRST).stat()
    make_photos(place.folder / "new", 1, first=101)
    other = (place.folder / "new" / "00101.jpg").read_bytes()
    # Decoders pass over what follows a JPEG's end.
    old = photo.read_bytes().ljust(before.st_size + 4096, b"\0")
    photo.write_bytes(old)
    os.utime(photo, ns=(0, 0))
    assert place.label()["labelled_now"] == 1
    draft = place.folder / "draft"
    draft.write_bytes(other.ljust(len(old), b"\0"))
    os.utime(draft, ns=(0, 0))
    draft.replace(photo)
    assert place.label("--ignore-inode")["labelled_now"] == 0
    counts = place.label()
    assert (counts["labelled_now"], counts["by_cause"]) == (1, {"inode": 1})
    assert place.label()["by_cause"] == {}
    assert place.report.read_bytes() == _fresh(place)


def test_a_restored_tree_is_read_again_but_not_labelled_again(place: RunFolder) -> None:
    report, photos = place.report.read_bytes(), place.folder / "photos"
    shutil.copytree(photos, place.folder / "restored")
    shutil.rmtree(photos)
    (place.folder / "restored").rename(photos)
    ran = place.run("photos", "-o", REPORT)
    assert f"0 to be labelled, {NUMBER} to be read again as their ctime or inode" in ran.stderr
    assert "--ignore-inode" in ran.stderr
    counts = place.counts()
    assert (counts["labelled_now"], counts["by_cause"]) == (0, {"inode": NUMBER})
    assert place.report.read_bytes() == report
    (place.folder / FIRST).chmod(0o600)
    assert place.label()["by_cause"] == {"inode": 1}
    assert place.label()["by_cause"] == {}


def test_failures_are_tried_again_until_they_are_repaired(place: RunFolder) -> None:
    whole, report = (place.folder / FIRST).read_bytes(), place.report.read_bytes()
    (place.folder / FIRST).write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        counts = place.label()
        assert counts["labelled_now"] == 1
        assert counts["by_reason"] == {"truncated": 1}
        assert place.rows()[FIRST]["status"] == "failed"
    (place.folder / FIRST).write_bytes(whole)
    assert place.label()["labelled_now"] == 1
    assert place.report.read_bytes() == report


def test_a_file_without_permission_keeps_its_answer_for_later(
    place: RunFolder,
) -> None:
    report = place.report.read_bytes()
    (place.folder / FIRST).chmod(0)
    for _ in range(2):
        ran = place.run("photos", "-o", REPORT, before=unprivileged_prefix())
        assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
        assert place.rows()[FIRST]["error"].startswith("unreadable: permission denied (owner ")
    assert place.counts()["labelled_now"] == 1
    (place.folder / FIRST).chmod(0o644)
    assert place.label()["labelled_now"] == 0
    assert place.report.read_bytes() == report


def test_photos_that_are_gone_can_be_kept_and_are_marked(place: RunFolder) -> None:
    before = place.rows()
    for photo in (FIRST, THIRD):
        (place.folder / photo).unlink()
    for _ in range(2):
        counts = place.label("--keep-missing")
        assert (counts["found"], counts["missing"]) == (NUMBER - 2, 2)
        assert counts["labelled_now"] == 0
    rows = place.rows()
    assert list(rows) == [*(path for path in before if path not in (FIRST, THIRD)), FIRST, THIRD]
    for photo in (FIRST, THIRD):
        assert rows[photo]["error"].startswith("missing: ")
        assert rows[photo] | {"error": ""} == before[photo]
    assert place.label()["missing"] == 0
    assert place.label("--keep-missing")["missing"] == 0
    assert place.report.read_bytes() == _fresh(place)


def test_fresh_labels_everything_again(place: RunFolder) -> None:
    report = place.report.read_bytes()
    assert place.label("--fresh")["labelled_now"] == NUMBER
    assert place.report.read_bytes() == report
    assert place.label()["labelled_now"] == 0


def test_verify_hash_finds_other_bytes_of_the_same_size_and_time(place: RunFolder) -> None:
    report, photo = place.report.read_bytes(), place.folder / LAST
    status = photo.stat()
    _replace(photo, 112)
    # A JPEG may end in anything.
    photo.write_bytes(photo.read_bytes().ljust(status.st_size, b"\0"))
    assert photo.stat().st_size == status.st_size
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert place.label("--ignore-inode")["labelled_now"] == 0
    assert place.report.read_bytes() == report
    counts = place.label("--ignore-inode", "--verify-hash")
    assert (counts["labelled_now"], counts["reused"]) == (1, NUMBER - 1)
    assert counts["by_cause"] == {"verify": NUMBER}
    assert place.report.read_bytes() == _fresh(place) != report


@pytest.mark.parametrize("args", [("-m", "other.onnx"), ("--salvage",), ("--per-face",)])
def test_options_that_change_answers_label_everything_again(
    place: RunFolder, args: tuple[str, ...]
) -> None:
    save_model(bright_model(bright_spec(unsure_below=0.9)), place.folder / "other.onnx")
    assert place.label(*args)["labelled_now"] == NUMBER
    assert place.label(*args)["labelled_now"] == 0
    assert place.report.read_bytes() == _fresh(place, *args)


def test_the_log_has_the_reason_for_labelling_known_photos_again(place: RunFolder) -> None:
    save_model(bright_model(bright_spec(version="2.0.0")), place.folder / "other.onnx")
    make_photos(place.folder / "photos", 2, first=200)
    (place.folder / FIRST).write_bytes(b"")
    ran = place.run("photos", "-o", REPORT)
    assert f"{NUMBER + 2} photos found, 3 to be labelled (2 new, 1 changed)" in ran.stderr
    assert place.counts()["by_cause"] == {"new": 2, "changed": 1}
    ran = place.run("photos", "-o", REPORT, "-m", "other.onnx", "--salvage")
    assert re.search(
        rf"{NUMBER + 2} to be labelled \(1 failed before, {NUMBER + 1} known, but models changed "
        r"from bright 1.0.0 \(\w{8}\) to bright 2.0.0 \(\w{8}\) "
        r"and --salvage changed from off to on\)",
        ran.stderr,
    ), ran.stderr


def test_one_journal_serves_reports_of_any_format(place: RunFolder) -> None:
    state = ("--state", "photos.journal")
    assert place.label(*state)["labelled_now"] == NUMBER
    for name in ("again.csv", "r.jsonl", "r.parquet"):
        ran = place.run("photos", "-o", name, *state)
        assert ran.returncode == ExitCode.OK, ran.stderr
        assert f"{NUMBER} reused" in ran.stderr
        alone = place.run("photos", "-o", f"alone-{name}")
        assert alone.returncode == ExitCode.OK, alone.stderr
        assert (place.folder / name).read_bytes() == (place.folder / f"alone-{name}").read_bytes()
        assert not (place.folder / f".{name}.journal").exists()


def test_paths_that_are_not_utf_8_are_found_again(place: RunFolder) -> None:
    odd = os.fsencode(place.folder) + b"/photos/caf\xe9\n.jpg"
    shutil.copy(os.fsencode(place.folder / FIRST), odd)
    shutil.copy(place.folder / SECOND, place.folder / "photos" / "日本.jpg")
    make_photos(place.folder / "photos", 1, first=300)
    assert place.label()["labelled_now"] == 1
    assert place.label()["labelled_now"] == 0
    assert r"photos/caf\xE9\n.jpg" in place.rows()
    assert place.report.read_bytes() == _fresh(place)


def test_a_fresh_start_that_is_killed_is_resumed(place: RunFolder) -> None:
    report = place.report.read_bytes()
    broken = place.folder / "photos" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff")
    args = ("photos", "-o", REPORT, "--fresh")
    assert place.run(*args, "--max-failures", "0").returncode == ExitCode.FAILED
    assert place.counts()["labelled_now"] == NUMBER + 1
    broken.unlink()
    ran = place.run(*args)
    assert ran.returncode == ExitCode.OK
    assert "resuming an earlier run with --fresh" in ran.stderr
    assert place.counts()["labelled_now"] == 0
    assert place.report.read_bytes() == report
    assert place.label("--fresh")["labelled_now"] == NUMBER


def test_a_pattern_tells_of_folders_that_can_t_be_read_and_forgets_nothing(
    place: RunFolder,
) -> None:
    inside = place.folder / "photos" / "inside"
    make_photos(inside, 2, first=NUMBER)
    pattern = ("photos/**/*.jpg", "-o", REPORT)
    assert place.run(*pattern).returncode == ExitCode.OK
    inside.chmod(0)
    try:
        ran = place.run(*pattern, before=unprivileged_prefix())
        assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
        assert place.rows()["photos/inside"]["error"].startswith(
            "unreadable: permission denied (owner "
        )
        assert place.run("photos/inside/*.jpg", before=unprivileged_prefix()).returncode == 3
    finally:
        inside.chmod(0o755)
    assert place.run(*pattern).returncode == ExitCode.OK
    assert place.counts()["labelled_now"] == 0
